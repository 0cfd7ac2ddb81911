package auth

import (
	"dstack/controller/store"
	"dstack/protocol/config"
)

// Policy is default_permissions of config.yml: what roles may do beyond the
// levels of the routes. It is server-wide. The zero value is not the default:
// see [config.StandardPermissions].
type Policy config.DefaultPermissions

// IsAdmin says whether the user is a global admin.
func (Policy) IsAdmin(u *store.User) bool { return u.GlobalRole == RoleAdmin }

// CanCreateProjects is User.permissions.can_create_projects.
func (p Policy) CanCreateProjects(u *store.User) bool {
	return p.IsAdmin(u) || p.AllowNonAdminsCreateProjects
}

// CanManageSSHFleets is Member.permissions.can_manage_ssh_fleets of a user
// with this role in the project, "" for none.
func (p Policy) CanManageSSHFleets(u *store.User, role string) bool {
	return p.IsAdmin(u) || role == RoleAdmin || role != "" && p.AllowNonAdminsManageSSHFleets
}

// CanManageSecrets is Member.permissions.can_manage_secrets of a user with
// this role in the project, "" for none.
func (p Policy) CanManageSecrets(u *store.User, role string) bool {
	return p.IsAdmin(u) || role == RoleAdmin || role == RoleManager && p.AllowManagersManageSecrets
}
