package store

import "fmt"

var projects = newTable("projects", func(r *Project, c *codec) []column {
	return []column{
		col("id", &r.ID),
		col("name", &r.Name),
		col("owner_id", &r.OwnerID),
		col("is_public", &r.IsPublic),
		col("templates_repo", &r.TemplatesRepo),
		col("public_key", &r.PublicKey),
		col("private_key", sealedText{&r.PrivateKey, c}),
		fixed("created_at", instant{&r.CreatedAt}),
		col("deleted", &r.Deleted),
		col("original_name", &r.OriginalName),
	}
})

var members = newTable("members", func(r *Member, _ *codec) []column {
	return []column{
		col("project_id", &r.ProjectID),
		col("user_id", &r.UserID),
		col("role", &r.Role),
		col("num", &r.Num),
	}
})

// InsertProject adds a project; [ErrExists] if the name (in any case) is taken.
func (tx *Tx) InsertProject(p *Project) error { return projects.add(tx, p) }

// UpdateProject writes a project, all but the time of creation.
func (tx *Tx) UpdateProject(p *Project) error { return projects.change(tx, p, ErrNotFound) }

// Project finds a project by id, also a deleted one.
func (tx *Tx) Project(id string) (Project, error) { return projects.one(tx, " WHERE id = $1", id) }

// ProjectByName finds a project that is not deleted, whatever the case of name.
func (tx *Tx) ProjectByName(name string) (Project, error) {
	return projects.one(tx, " WHERE lower(name) = lower($1) AND NOT deleted", name)
}

// ProjectsNamed finds the projects, not deleted, that have exactly these names.
func (tx *Tx) ProjectsNamed(names []string) ([]Project, error) {
	var w where
	w.in("name", nonNil(names))
	w.add("NOT deleted")
	return projects.find(tx, w.String()+" ORDER BY created_at, id", w.args...)
}

// ProjectsByID finds projects by id, also deleted ones.
func (tx *Tx) ProjectsByID(ids []string) (map[string]Project, error) {
	var w where
	w.in("id", nonNil(ids))
	list, err := projects.find(tx, w.String(), w.args...)
	return byID(list, func(p Project) string { return p.ID }), err
}

// ProjectFilter says which projects to list; those that are deleted never are.
type ProjectFilter struct {
	// MemberID restricts to projects of which this user is a member, and
	// with OrPublic also public ones; empty means all.
	MemberID string
	OrPublic bool
	// OwnerID restricts to projects that this user owns, UserID to those that
	// this user owns or is a member of; empty means all.
	OwnerID string
	UserID  string
	// NoFleets leaves out projects with a fleet, own or imported.
	NoFleets    bool
	NamePattern string // part of the name, in any case
	Page        Page
}

func (f ProjectFilter) where() where {
	var w where
	w.add("NOT deleted")
	if f.MemberID != "" {
		cond := "id IN (SELECT project_id FROM members WHERE user_id = ?)"
		if f.OrPublic {
			cond = "(is_public OR " + cond + ")"
		}
		w.add(cond, f.MemberID)
	}
	if f.OwnerID != "" {
		w.add("owner_id = ?", f.OwnerID)
	}
	if f.UserID != "" {
		w.add("(owner_id = ? OR id IN (SELECT project_id FROM members WHERE user_id = ?))", f.UserID, f.UserID)
	}
	if f.NoFleets {
		w.add(`NOT EXISTS (SELECT 1 FROM fleets f WHERE f.project_id = projects.id AND NOT f.deleted)
			AND NOT EXISTS (SELECT 1 FROM imports i JOIN exported_fleets e ON e.export_id = i.export_id
				JOIN fleets f ON f.id = e.fleet_id WHERE i.project_id = projects.id AND NOT f.deleted)`)
	}
	if f.NamePattern != "" {
		w.add(`lower(name) LIKE ? ESCAPE '\'`, likePattern(f.NamePattern))
	}
	return w
}

// Projects lists projects, newest first unless the page says otherwise.
func (tx *Tx) Projects(f ProjectFilter) ([]Project, error) {
	w := f.where()
	tail := w.page(f.Page, "created_at")
	return projects.find(tx, w.String()+tail, w.args...)
}

// CountProjects counts what Projects lists, whatever the page.
func (tx *Tx) CountProjects(f ProjectFilter) (int, error) {
	w := f.where()
	return projects.count(tx, w.String(), w.args...)
}

// SetMembers replaces the members of a project; their order is that of the
// list, whatever their Num.
func (tx *Tx) SetMembers(projectID string, list []Member) error {
	if _, err := tx.exec("DELETE FROM members WHERE project_id = $1", projectID); err != nil {
		return fmt.Errorf("delete members: %w", err)
	}
	for i, m := range list {
		m.ProjectID, m.Num = projectID, i
		if err := members.add(tx, &m); err != nil {
			return err
		}
	}
	return nil
}

// Members lists the members of a project in order.
func (tx *Tx) Members(projectID string) ([]Member, error) {
	return members.find(tx, " WHERE project_id = $1 ORDER BY num, user_id", projectID)
}

// Member finds a user's membership; [ErrNotFound] if there is none.
func (tx *Tx) Member(projectID, userID string) (Member, error) {
	return members.one(tx, " WHERE project_id = $1 AND user_id = $2", projectID, userID)
}

// MemberProjects lists the ids of the projects, not deleted, that a user is a
// member of: what root lists may show.
func (tx *Tx) MemberProjects(userID string) ([]string, error) {
	return tx.memberProjects(" WHERE user_id = $1 AND project_id IN (SELECT id FROM projects WHERE NOT deleted)", userID)
}

// AllMemberProjects is MemberProjects with deleted projects: what events may
// show.
func (tx *Tx) AllMemberProjects(userID string) ([]string, error) {
	return tx.memberProjects(" WHERE user_id = $1", userID)
}

func (tx *Tx) memberProjects(tail, userID string) ([]string, error) {
	list, err := members.find(tx, tail, userID)
	ids := []string{}
	for _, m := range list {
		ids = append(ids, m.ProjectID)
	}
	return ids, err
}

// firstAdded is the number of the first member that AddMember adds: they come
// before those of SetMembers, in the order in which they were added.
const firstAdded = -1 << 20

// AddMember adds a user to a project; [ErrExists] if the user is a member.
func (tx *Tx) AddMember(projectID, userID, role string) error {
	_, err := tx.exec(`INSERT INTO members (project_id, user_id, role, num)
		SELECT $1, $2, $3, coalesce(max(num) + 1, $4) FROM members WHERE project_id = $1 AND num < 0`,
		projectID, userID, role, firstAdded)
	if err != nil {
		return fmt.Errorf("insert into members: %w", err)
	}
	return nil
}

// SetRole changes the role of a member.
func (tx *Tx) SetRole(projectID, userID, role string) error {
	_, err := tx.exec("UPDATE members SET role = $1 WHERE project_id = $2 AND user_id = $3", role, projectID, userID)
	if err != nil {
		return fmt.Errorf("update members: %w", err)
	}
	return nil
}

// RemoveMember takes a user out of a project.
func (tx *Tx) RemoveMember(projectID, userID string) error {
	if _, err := tx.exec("DELETE FROM members WHERE project_id = $1 AND user_id = $2", projectID, userID); err != nil {
		return fmt.Errorf("delete members: %w", err)
	}
	return nil
}

// MembersOf lists a user's memberships in these projects.
func (tx *Tx) MembersOf(userID string, projectIDs []string) ([]Member, error) {
	var w where
	w.add("user_id = ?", userID)
	w.in("project_id", nonNil(projectIDs))
	return members.find(tx, w.String(), w.args...)
}
