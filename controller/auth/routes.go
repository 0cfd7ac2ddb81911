package auth

import (
	"maps"
	"slices"
)

// Level is who passes (spec: rest-api.md 3).
type Level int

// Levels. A global admin passes all of them.
const (
	// GlobalAdmin is what a route needs that nobody thought of.
	GlobalAdmin     Level = iota
	Open                  // anybody, without a token
	Elsewhere             // anybody here: the endpoint has a check of its own kind
	Authenticated         // A: any valid token
	Importer              // A here: the endpoint looks at who imports what the body names
	MemberOrPublic        // PMP: a member, or the project is public
	Member                // PM: a member of the project, in any role
	ManagerOrPublic       // an admin or manager of the project, or the project is public
	Manager               // PMan: an admin or manager of the project
	ProjectAdmin          // PA: an admin of the project
)

// String is how the table of all routes and roles calls the level.
func (l Level) String() string {
	return [...]string{
		"global admin", "open", "own check", "any user", "any user, then importers", "members or public", "members",
		"managers or public", "managers", "project admins",
	}[l]
}

// levels is the one place that says who may call what: each route by its
// whole path. What it lacks is for global admins only, and a test fails.
// Beyond its level a route may look at [Policy] and at what the body names.
var levels = map[string]Level{
	"/api/server/get_info":              Open,
	"/api/server/sweep":                 GlobalAdmin,
	"/api/users/list":                   Authenticated,
	"/api/users/get_my_user":            Authenticated,
	"/api/users/get_user":               Authenticated,
	"/api/users/create":                 GlobalAdmin,
	"/api/users/update":                 GlobalAdmin,
	"/api/users/refresh_ssh_key":        Authenticated,
	"/api/users/refresh_token":          Authenticated,
	"/api/users/delete":                 GlobalAdmin,
	"/api/users/public_keys/list":       Authenticated,
	"/api/users/public_keys/add":        Authenticated,
	"/api/users/public_keys/delete":     Authenticated,
	"/api/auth/list_providers":          Open,
	"/api/auth/get_next_redirect":       Open,
	"/api/projects/list":                Authenticated,
	"/api/projects/list_only_no_fleets": Authenticated,
	"/api/projects/create":              Authenticated,
	"/api/projects/delete":              Authenticated,
	"/api/backends/list_types":          Open,
	"/api/fleets/list":                  Authenticated,
	"/api/instances/list":               Authenticated,
	"/api/runs/list":                    Authenticated,
	"/api/volumes/list":                 Authenticated,
	"/api/files/get_archive_by_hash":    Authenticated,
	"/api/files/upload_archive":         Authenticated,
	"/api/events/list":                  Authenticated,
	"/api/sshproxy/get_upstream":        Elsewhere,

	"/api/projects/:project_name/get":            MemberOrPublic,
	"/api/projects/:project_name/set_members":    Manager,
	"/api/projects/:project_name/add_members":    ManagerOrPublic,
	"/api/projects/:project_name/remove_members": Member,
	"/api/projects/:project_name/update":         ProjectAdmin,

	"/api/project/:project_name/backends/create":                      ProjectAdmin,
	"/api/project/:project_name/backends/update":                      ProjectAdmin,
	"/api/project/:project_name/backends/delete":                      ProjectAdmin,
	"/api/project/:project_name/backends/:backend_name/config_info":   ProjectAdmin,
	"/api/project/:project_name/backends/create_yaml":                 ProjectAdmin,
	"/api/project/:project_name/backends/update_yaml":                 ProjectAdmin,
	"/api/project/:project_name/backends/:backend_name/get_yaml":      ProjectAdmin,
	"/api/project/:project_name/fleets/list":                          Member,
	"/api/project/:project_name/fleets/get":                           Importer,
	"/api/project/:project_name/fleets/get_plan":                      Member,
	"/api/project/:project_name/fleets/apply":                         Member,
	"/api/project/:project_name/fleets/delete":                        Member,
	"/api/project/:project_name/fleets/delete_instances":              Member,
	"/api/project/:project_name/instances/get_instance_health_checks": Member,
	"/api/project/:project_name/instances/get":                        Importer,
	"/api/project/:project_name/repos/list":                           Member,
	"/api/project/:project_name/repos/get":                            Member,
	"/api/project/:project_name/repos/init":                           Member,
	"/api/project/:project_name/repos/delete":                         Member,
	"/api/project/:project_name/repos/upload_code":                    Member,
	"/api/project/:project_name/runs/get":                             Member,
	"/api/project/:project_name/runs/get_plan":                        Member,
	"/api/project/:project_name/runs/apply":                           Member,
	"/api/project/:project_name/runs/stop":                            Member,
	"/api/project/:project_name/runs/delete":                          Member,
	"/api/project/:project_name/gpus/list":                            Member,
	"/api/project/:project_name/metrics/job/:run_name":                Member,
	"/api/project/:project_name/logs/poll":                            Member,
	"/api/project/:project_name/secrets/list":                         Manager,
	"/api/project/:project_name/secrets/get":                          Manager,
	"/api/project/:project_name/secrets/create_or_update":             Manager,
	"/api/project/:project_name/secrets/delete":                       Manager,
	"/api/project/:project_name/gateways/list":                        MemberOrPublic,
	"/api/project/:project_name/gateways/get":                         Importer,
	"/api/project/:project_name/gateways/get_plan":                    ProjectAdmin,
	"/api/project/:project_name/gateways/apply":                       ProjectAdmin,
	"/api/project/:project_name/gateways/create":                      ProjectAdmin,
	"/api/project/:project_name/gateways/delete":                      ProjectAdmin,
	"/api/project/:project_name/gateways/set_default":                 ProjectAdmin,
	"/api/project/:project_name/gateways/set_wildcard_domain":         ProjectAdmin,
	"/api/project/:project_name/volumes/list":                         Member,
	"/api/project/:project_name/volumes/get":                          Member,
	"/api/project/:project_name/volumes/create":                       Member,
	"/api/project/:project_name/volumes/delete":                       Member,
	"/api/project/:project_name/templates/list":                       Member,
	"/api/project/:project_name/exports/create":                       ProjectAdmin,
	"/api/project/:project_name/exports/update":                       ProjectAdmin,
	"/api/project/:project_name/exports/delete":                       ProjectAdmin,
	"/api/project/:project_name/exports/list":                         Member,
	"/api/project/:project_name/imports/delete":                       ProjectAdmin,
	"/api/project/:project_name/imports/list":                         Member,

	// The proxy: a service itself says whether only members may use it.
	"/proxy/services/:project_name/:run_name":       Elsewhere,
	"/proxy/services/:project_name/:run_name/*path": Elsewhere,
	"/proxy/models/:project_name/models":            Member,
	"/proxy/models/:project_name/chat/completions":  Member,

	// Ours.
	"/healthcheck":                             Open,
	"/metrics":                                 Elsewhere,
	"/api/project/:project_name/logs/follow":   Member,
	"/api/project/:project_name/metrics/usage": Member,
	"/api/project/:project_name/runs/watch":    Member,
	"/api/project/:project_name/runs/why":      Member,
	// And then the owner of the run and administrators: see Caller.MayEnter.
	"/api/project/:project_name/runs/:run_name/relay": Member,
}

// LevelOf returns the level of a route, given as its path with the names of
// its parameters, such as "/api/project/:project_name/runs/list". ok says that
// the table has it.
func LevelOf(route string) (level Level, ok bool) {
	level, ok = levels[route]
	return level, ok
}

// Routes lists the routes of the table in order.
func Routes() []string { return slices.Sorted(maps.Keys(levels)) }
