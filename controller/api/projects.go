package api

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"dstack/controller/auth"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// maxProjects is the largest page of projects/list.
const maxProjects = 2000

// projectNameText is what a name of a project must look like.
var projectNameText = regexp.MustCompile(`^[a-zA-Z0-9-_]{1,50}$`)

// listProjects answers with a list, or with ProjectsInfoList. A global admin
// sees all projects, others theirs and public ones; Username narrows that to
// the projects that this user owns or is a member of.
func (a *API) listProjects(ctx context.Context, c call, in api.ListProjectsRequest) (any, error) {
	list := []api.Project{}
	total := 0
	filter := store.ProjectFilter{NamePattern: deref(in.NamePattern, "")}
	if !a.deps.Policy.IsAdmin(&c.User) {
		filter.MemberID, filter.OrPublic = c.User.ID, deref(in.IncludeNotJoined, true)
	}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		var of store.User
		if in.Username != nil {
			var err error
			if of, err = tx.UserByExactName(*in.Username); isNotFound(err) {
				return nil
			} else if err != nil {
				return fmt.Errorf("find user: %w", err)
			}
			filter.UserID = of.ID
		}
		if in.ReturnTotalCount {
			var err error
			if total, err = tx.CountProjects(filter); err != nil {
				return fmt.Errorf("count projects: %w", err)
			}
		}
		page, ok := pageOf(in.PrevCreatedAt, in.PrevID, in.Limit, maxProjects, in.Ascending)
		if !ok {
			return nil
		}
		filter.Page = page
		var err error
		if list, err = a.projectViews(tx, filter); err != nil || in.Username == nil {
			return err
		}
		return a.showMember(tx, list, &of)
	})
	if err != nil {
		return nil, err
	}
	if in.ReturnTotalCount {
		return api.ProjectsInfoList{TotalCount: total, Projects: list}, nil
	}
	return list, nil
}

// listEmptyProjects lists the caller's projects without a fleet, own or
// imported, oldest first.
func (a *API) listEmptyProjects(ctx context.Context, c call, _ noBody) ([]api.Project, error) {
	var out []api.Project
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		var err error
		out, err = a.projectViews(tx, store.ProjectFilter{MemberID: c.User.ID, NoFleets: true, Page: store.Page{Ascending: true}})
		return err
	})
	return out, err
}

// projectViews renders projects for a list: without members and backends.
func (a *API) projectViews(tx *store.Tx, filter store.ProjectFilter) ([]api.Project, error) {
	rows, err := tx.Projects(filter)
	if err != nil {
		return nil, fmt.Errorf("list projects: %w", err)
	}
	owners := make([]string, len(rows))
	for i := range rows {
		owners[i] = rows[i].OwnerID
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

// showMember adds a user's own entry to projects of a list.
func (a *API) showMember(tx *store.Tx, list []api.Project, u *store.User) error {
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ProjectID
	}
	rows, err := tx.MembersOf(u.ID, ids)
	if err != nil {
		return fmt.Errorf("list members: %w", err)
	}
	roles := map[string]string{}
	for _, m := range rows {
		roles[m.ProjectID] = m.Role
	}
	for i := range list {
		if role, ok := roles[list[i].ProjectID]; ok {
			list[i].Members = append(list[i].Members, a.memberView(u, role))
		}
	}
	return nil
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

func (a *API) memberView(u *store.User, role string) api.Member {
	return api.Member{
		User: a.userView(u), ProjectRole: role,
		Permissions: api.MemberPermissions{
			CanManageSSHFleets: a.deps.Policy.CanManageSSHFleets(u, role),
			CanManageSecrets:   a.deps.Policy.CanManageSecrets(u, role),
		},
	}
}

func (a *API) getProject(ctx context.Context, c call, _ noBody) (api.Project, error) {
	var out api.Project
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		var err error
		out, err = a.wholeProject(tx, &c.Project)
		return err
	})
	return out, err
}

// wholeProject renders a project with its members and backends.
func (a *API) wholeProject(tx *store.Tx, p *store.Project) (api.Project, error) {
	rows, err := tx.Members(p.ID)
	if err != nil {
		return api.Project{}, fmt.Errorf("list members: %w", err)
	}
	ids := []string{p.OwnerID}
	for _, m := range rows {
		ids = append(ids, m.UserID)
	}
	users, err := tx.UsersByID(ids)
	if err != nil {
		return api.Project{}, fmt.Errorf("find members: %w", err)
	}
	out := a.projectView(p, users)
	if out.Backends, err = backendInfos(tx, p.ID); err != nil {
		return api.Project{}, err
	}
	for _, m := range rows {
		u := users[m.UserID]
		out.Members = append(out.Members, a.memberView(&u, m.Role))
	}
	return out, nil
}

func (a *API) createProject(ctx context.Context, c call, in api.CreateProjectRequest) (api.Project, error) {
	if !a.deps.Policy.CanCreateProjects(&c.User) {
		return api.Project{}, notAllowed("User cannot create projects")
	}
	if err := a.deps.Store.Read(ctx, func(tx *store.Tx) error { return a.mayCreate(tx, c, in.ProjectName) }); err != nil {
		return api.Project{}, err
	}
	if !projectNameText.MatchString(in.ProjectName) {
		return api.Project{}, refuse("Project name should match regex '%s'", projectNameText)
	}
	templates, err := a.templatesRepo(ctx, in.TemplatesRepo)
	if err != nil {
		return api.Project{}, err
	}
	p, err := auth.NewProject(in.ProjectName, c.User.ID, a.deps.Now())
	if err != nil {
		return api.Project{}, fmt.Errorf("create project: %w", err)
	}
	p.IsPublic, p.TemplatesRepo = in.IsPublic, templates
	var out api.Project
	err = a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		if err := a.mayCreate(tx, c, p.Name); err != nil {
			return err
		}
		if err := auth.AddProject(tx, &p); err != nil {
			return err //nolint:wrapcheck // says what it was doing
		}
		if err := a.record(tx, c, "Project created", projectTarget(&p)); err != nil {
			return err
		}
		out, err = a.wholeProject(tx, &p)
		return err
	})
	return out, err
}

// mayCreate says whether the name is free and the caller's quota not used up.
func (a *API) mayCreate(tx *store.Tx, c call, name string) error {
	_, err := tx.ProjectByName(name)
	if err == nil {
		return exists()
	}
	if !isNotFound(err) {
		return fmt.Errorf("find project: %w", err)
	}
	if a.deps.Policy.IsAdmin(&c.User) {
		return nil
	}
	n, err := tx.CountProjects(store.ProjectFilter{OwnerID: c.User.ID})
	if err != nil {
		return fmt.Errorf("count projects: %w", err)
	}
	if n >= a.deps.ProjectQuota {
		return refuse("User project quota exceeded")
	}
	return nil
}

// updateProject changes what the request names and is not empty.
func (a *API) updateProject(ctx context.Context, c call, in api.UpdateProjectRequest) (api.Project, error) {
	var templates *string
	if in.ResetTemplatesRepo {
		templates = new("")
	} else if repo, err := a.templatesRepo(ctx, in.TemplatesRepo); err != nil {
		return api.Project{}, err
	} else {
		templates = repo
	}
	var out api.Project
	err := a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		p, err := tx.Project(c.Project.ID)
		if err != nil {
			return fmt.Errorf("find project: %w", err)
		}
		var changed []string
		if in.IsPublic != nil && *in.IsPublic != p.IsPublic {
			p.IsPublic = *in.IsPublic
			changed = append(changed, "is_public="+pythonBool(p.IsPublic))
		}
		if templates != nil && *templates != deref(p.TemplatesRepo, "") {
			p.TemplatesRepo = none(*templates)
			changed = append(changed, "templates_repo="+deref(p.TemplatesRepo, "None"))
		}
		if err := tx.UpdateProject(&p); err != nil {
			return fmt.Errorf("update project: %w", err)
		}
		if err := a.record(tx, c, "Project updated. Updated fields: "+fieldList(changed), projectTarget(&p)); err != nil {
			return err
		}
		out, err = a.wholeProject(tx, &p)
		return err
	})
	return out, err
}

// templatesRepo trims the URL of a repo and checks that it can be read; blank
// is nil.
func (a *API) templatesRepo(ctx context.Context, text *string) (*string, error) {
	repo := strings.TrimSpace(deref(text, ""))
	if repo == "" {
		return nil, nil //nolint:nilnil // no repo, and nothing wrong
	}
	if err := a.deps.TemplatesRepos.Check(ctx, repo); err != nil {
		e := refuse("Cannot access templates repo: %s", repo)
		e.Err = err
		return nil, e
	}
	return &repo, nil
}
