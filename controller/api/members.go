package api

import (
	"context"
	"fmt"
	"slices"

	"dstack/controller/auth"
	"dstack/controller/store"
	"dstack/protocol/api"
)

const msgTwice = "Cannot add same user multiple times"

// setMembers replaces the members of a project. Unknown users are left out,
// as in 0.22.5; a project keeps an admin.
func (a *API) setMembers(ctx context.Context, c call, in api.SetMembersRequest) (api.Project, error) {
	return a.changeMembers(ctx, c, func(tx *store.Tx, old []store.Member) error {
		var list []store.Member
		for _, m := range in.Members {
			u, err := tx.UserByNameOrEmail(m.Username)
			if isNotFound(err) {
				continue
			}
			if err != nil {
				return fmt.Errorf("find user: %w", err)
			}
			if slices.ContainsFunc(list, func(x store.Member) bool { return x.UserID == u.ID }) {
				return refuse(msgTwice)
			}
			list = append(list, store.Member{UserID: u.ID, Role: string(m.ProjectRole)})
		}
		had, have := admins(old), admins(list)
		if !a.isProjectAdmin(c) && !sameSet(had, have) {
			return notAllowed("Access denied: changing project admins")
		}
		if len(had) > 0 && len(have) == 0 {
			return refuse("Cannot remove all project admins")
		}
		if err := tx.SetMembers(c.Project.ID, list); err != nil {
			return fmt.Errorf("set members: %w", err)
		}
		return a.recordMembers(tx, c, old, list)
	})
}

// addMembers adds members, or changes the roles of those that there are.
func (a *API) addMembers(ctx context.Context, c call, in api.SetMembersRequest) (api.Project, error) {
	return a.changeMembers(ctx, c, func(tx *store.Tx, old []store.Member) error {
		if err := a.mayAdd(c, in.Members); err != nil {
			return err
		}
		seen := map[string]bool{}
		for _, m := range in.Members {
			u, err := tx.UserByNameOrEmail(m.Username)
			if isNotFound(err) {
				return refuse("User not found: %s", m.Username)
			}
			if err != nil {
				return fmt.Errorf("find user: %w", err)
			}
			if seen[u.ID] {
				return refuse(msgTwice)
			}
			seen[u.ID] = true
			if err := a.addMember(tx, c, &u, string(m.ProjectRole), roleOf(old, u.ID)); err != nil {
				return err
			}
		}
		return nil
	})
}

// mayAdd says whether the caller may add these members: a project's admins
// and managers may, and everybody may join a public project.
func (a *API) mayAdd(c call, members []api.MemberSetting) error {
	if a.isProjectAdmin(c) {
		return nil
	}
	if c.Role == auth.RoleManager {
		if slices.ContainsFunc(members, func(m api.MemberSetting) bool { return m.ProjectRole == auth.RoleAdmin }) {
			return notAllowed("Access denied: only global admins can add project admins")
		}
		return nil
	}
	self := len(members) == 1 && c.Role == "" && isUser(&c.User, members[0].Username)
	if !self {
		return notAllowed("Access denied: insufficient permissions to add members")
	}
	if members[0].ProjectRole != auth.RoleUser {
		return notAllowed("Access denied: can only join public projects as user role")
	}
	return nil
}

// addMember adds u or changes its role; had is the role so far. Unlike in
// 0.22.5 a manager cannot make a user of an admin.
func (a *API) addMember(tx *store.Tx, c call, u *store.User, role, had string) error {
	if had == auth.RoleAdmin && role != auth.RoleAdmin && !a.isProjectAdmin(c) {
		return notAllowed("Access denied: changing project admins")
	}
	var err error
	if had == "" {
		err = tx.AddMember(c.Project.ID, u.ID, role)
	} else {
		err = tx.SetRole(c.Project.ID, u.ID, role)
	}
	if err != nil {
		return fmt.Errorf("add member: %w", err)
	}
	return a.recordMember(tx, c, u, had, role)
}

// removeMembers takes members out of a project; everybody may leave.
func (a *API) removeMembers(ctx context.Context, c call, in api.RemoveMembersRequest) (api.Project, error) {
	return a.changeMembers(ctx, c, func(tx *store.Tx, old []store.Member) error {
		leaving := len(in.Usernames) == 1 && isUser(&c.User, in.Usernames[0])
		if leaving && c.Role == auth.RoleAdmin && len(admins(old)) == 1 {
			return refuse("Cannot leave project: you are the last admin")
		}
		if !leaving && !a.isProjectAdmin(c) && c.Role != auth.RoleManager {
			return notAllowed("Access denied: insufficient permissions to remove members")
		}
		gone := map[string]bool{}
		for _, name := range in.Usernames {
			u, err := tx.UserByNameOrEmail(name)
			if isNotFound(err) {
				return refuse("User not found: %s", name)
			}
			if err != nil {
				return fmt.Errorf("find user: %w", err)
			}
			role := roleOf(old, u.ID)
			if role == "" {
				return refuse("User is not a member of this project: %s", name)
			}
			if role == auth.RoleAdmin && !leaving && !a.deps.Policy.IsAdmin(&c.User) {
				return notAllowed("Access denied: only global admins can remove project admins (user: %s)", name)
			}
			gone[u.ID] = true
		}
		return a.removeAll(tx, c, old, gone)
	})
}

// removeAll removes members unless no admin would be left.
func (a *API) removeAll(tx *store.Tx, c call, old []store.Member, gone map[string]bool) error {
	left := slices.DeleteFunc(slices.Clone(old), func(m store.Member) bool { return gone[m.UserID] })
	if len(admins(left)) == 0 && len(admins(old)) > 0 {
		return refuse("Cannot remove all project admins")
	}
	for id := range gone {
		if err := tx.RemoveMember(c.Project.ID, id); err != nil {
			return fmt.Errorf("remove member: %w", err)
		}
	}
	return a.recordMembers(tx, c, old, left)
}

// recordMembers stores an event for each member that differs between two
// lists. 0.22.5 has none for members.
func (a *API) recordMembers(tx *store.Tx, c call, old, list []store.Member) error {
	var ids []string
	for _, m := range append(slices.Clone(list), old...) {
		if !slices.Contains(ids, m.UserID) {
			ids = append(ids, m.UserID)
		}
	}
	users, err := tx.UsersByID(ids)
	if err != nil {
		return fmt.Errorf("find members: %w", err)
	}
	for _, id := range ids {
		u, known := users[id]
		if !known {
			continue
		}
		if err := a.recordMember(tx, c, &u, roleOf(old, id), roleOf(list, id)); err != nil {
			return err
		}
	}
	return nil
}

// recordMember stores the event of a role that changed; empty is none.
func (a *API) recordMember(tx *store.Tx, c call, u *store.User, had, has string) error {
	message := "Member " + u.EventName()
	switch {
	case had == has:
		return nil
	case has == "":
		message += " removed"
	case had == "":
		message += " added. Role: " + has
	default:
		message += " updated. Role: " + has
	}
	return a.record(tx, c, message, projectTarget(&c.Project), userTarget(u))
}

// changeMembers runs change on the members that there are now and returns the
// project as it is then.
func (a *API) changeMembers(ctx context.Context, c call, change func(*store.Tx, []store.Member) error) (api.Project, error) {
	var out api.Project
	err := a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		old, err := tx.Members(c.Project.ID)
		if err != nil {
			return fmt.Errorf("list members: %w", err)
		}
		if err := change(tx, old); err != nil {
			return err
		}
		out, err = a.wholeProject(tx, &c.Project)
		return err
	})
	return out, err
}

// isProjectAdmin says whether the caller may do all in its project.
func (a *API) isProjectAdmin(c call) bool {
	return c.Role == auth.RoleAdmin || a.deps.Policy.IsAdmin(&c.User)
}

func isUser(u *store.User, nameOrEmail string) bool {
	return nameOrEmail == u.Name || u.Email != nil && nameOrEmail == *u.Email
}

// admins lists the ids of the admins among members.
func admins(list []store.Member) []string {
	var out []string
	for _, m := range list {
		if m.Role == auth.RoleAdmin {
			out = append(out, m.UserID)
		}
	}
	return out
}

// roleOf is a user's role, empty for none.
func roleOf(list []store.Member, userID string) string {
	for _, m := range list {
		if m.UserID == userID {
			return m.Role
		}
	}
	return ""
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}
