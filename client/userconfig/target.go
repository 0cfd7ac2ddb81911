package userconfig

import (
	"errors"
	"fmt"
)

// Target is the server, token and project of a command.
type Target struct {
	URL, Token, Project string
}

// Resolve finds the target (spec: cli.md 4). project is --project; lookup is
// the environment, such as [os.LookupEnv]. DSTACK_SERVER_URL and DSTACK_TOKEN
// together win over the file.
func Resolve(f *File, project string, lookup func(string) (string, bool)) (Target, error) {
	env := func(name string) string {
		value, _ := lookup(name)
		return value
	}
	if project == "" {
		project = env("DSTACK_PROJECT")
	}
	url, token := env("DSTACK_SERVER_URL"), env("DSTACK_TOKEN")
	if url != "" && token != "" {
		if project == "" {
			return Target{}, errors.New("DSTACK_SERVER_URL and DSTACK_TOKEN are set, but the project is not specified. Set DSTACK_PROJECT or use --project")
		}
		return Target{URL: url, Token: token, Project: project}, nil
	}
	entry, ok := f.Project(project)
	switch {
	case ok:
		if token == "" {
			token = entry.Token
		}
		return Target{URL: entry.URL, Token: token, Project: entry.Name}, nil
	case url != "":
		return Target{}, errors.New("DSTACK_SERVER_URL is set, but DSTACK_TOKEN is not set")
	case project != "":
		return Target{}, fmt.Errorf("Project %s is not configured. Add it with: dstack project add --name %s --url URL --token TOKEN", project, project)
	}
	return Target{}, errors.New("No default project, specify project name with --project, or add one with: dstack project add") //nolint:staticcheck // starts as in 0.22.5
}
