package api

import (
	"context"
	"fmt"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// maxProjects is the largest page of projects/list.
const maxProjects = 2000

// listProjects answers with a list, or with ProjectsInfoList.
func (a *API) listProjects(ctx context.Context, c call, in api.ListProjectsRequest) (any, error) {
	var list []api.Project
	total := 0
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		filter := store.ProjectFilter{NamePattern: deref(in.NamePattern, "")}
		member, err := a.projectScope(tx, c, in)
		if err != nil || member == nobody {
			return err
		}
		filter.MemberID = member
		filter.OrPublic = deref(in.IncludeNotJoined, true) && in.Username == nil && !a.deps.Policy.IsAdmin(&c.User)
		if in.ReturnTotalCount {
			if total, err = tx.CountProjects(filter); err != nil {
				return fmt.Errorf("count projects: %w", err)
			}
		}
		page, ok := pageOf(in.PrevCreatedAt, in.PrevID, in.Limit, maxProjects, in.Ascending)
		if !ok {
			return nil
		}
		filter.Page = page
		rows, err := tx.Projects(filter)
		if err != nil {
			return fmt.Errorf("list projects: %w", err)
		}
		list, err = a.projectViews(tx, rows)
		return err
	})
	if err != nil {
		return nil, err
	}
	if list == nil {
		list = []api.Project{}
	}
	if in.ReturnTotalCount {
		return api.ProjectsInfoList{TotalCount: total, Projects: list}, nil
	}
	return list, nil
}

// nobody stands for a user that the caller may not look up.
const nobody = "-"

// projectScope is the id of the user whose projects are listed; empty is all.
func (a *API) projectScope(tx *store.Tx, c call, in api.ListProjectsRequest) (string, error) {
	admin := a.deps.Policy.IsAdmin(&c.User)
	if in.Username == nil {
		if admin {
			return "", nil
		}
		return c.User.ID, nil
	}
	u, err := tx.UserByName(*in.Username)
	switch {
	case isNotFound(err), err == nil && !admin && u.ID != c.User.ID:
		return nobody, nil
	case err != nil:
		return "", fmt.Errorf("find user: %w", err)
	}
	return u.ID, nil
}

// projectViews renders projects for a list: without members and backends.
func (a *API) projectViews(tx *store.Tx, rows []store.Project) ([]api.Project, error) {
	owners := make([]string, len(rows))
	for i, p := range rows {
		owners[i] = p.OwnerID
	}
	users, err := tx.UsersByID(owners)
	if err != nil {
		return nil, fmt.Errorf("find owners: %w", err)
	}
	list := make([]api.Project, len(rows))
	for i := range rows {
		list[i] = a.projectView(&rows[i], users)
	}
	return list, nil
}

func (a *API) projectView(p *store.Project, users map[string]store.User) api.Project {
	owner := users[p.OwnerID]
	return api.Project{
		ProjectID: p.ID, ProjectName: p.Name, Owner: a.userView(&owner),
		CreatedAt: new(api.At(p.CreatedAt)),
		Backends:  []api.BackendInfo{}, Members: []api.Member{},
		IsPublic: p.IsPublic, TemplatesRepo: p.TemplatesRepo,
	}
}

func (a *API) getProject(ctx context.Context, c call, _ noBody) (api.Project, error) {
	var out api.Project
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		rows, err := tx.Members(c.Project.ID)
		if err != nil {
			return fmt.Errorf("list members: %w", err)
		}
		ids := []string{c.Project.OwnerID}
		for _, m := range rows {
			ids = append(ids, m.UserID)
		}
		users, err := tx.UsersByID(ids)
		if err != nil {
			return fmt.Errorf("find members: %w", err)
		}
		out = a.projectView(&c.Project, users)
		for _, m := range rows {
			u := users[m.UserID]
			out.Members = append(out.Members, api.Member{
				User: a.userView(&u), ProjectRole: m.Role,
				Permissions: api.MemberPermissions{
					CanManageSSHFleets: a.deps.Policy.CanManageSSHFleets(&u, m.Role),
					CanManageSecrets:   a.deps.Policy.CanManageSecrets(&u, m.Role),
				},
			})
		}
		return nil
	})
	return out, err
}
