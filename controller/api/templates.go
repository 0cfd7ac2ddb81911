package api

import (
	"context"

	"dstack/protocol/config"
)

// listTemplates reads those of the project's repo, or else of the server's.
func (a *API) listTemplates(ctx context.Context, c call, _ noBody) ([]config.Template, error) {
	repo := deref(c.Project.TemplatesRepo, a.deps.DefaultTemplates)
	if repo == "" {
		return []config.Template{}, nil
	}
	list := a.deps.TemplatesRepos.List(ctx, repo)
	if list == nil {
		list = []config.Template{}
	}
	return list, nil
}
