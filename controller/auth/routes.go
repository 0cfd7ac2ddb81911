package auth

import "strings"

// Level is who passes (spec: rest-api.md 3).
type Level int

// Levels. A global admin passes all of them.
const (
	// GlobalAdmin is what a route needs that nobody thought of.
	GlobalAdmin    Level = iota
	Open                 // anybody, without a token
	Authenticated        // A: any valid token
	Member               // PM: a member of the project, in any role
	MemberOrPublic       // PMP: a member, or the project is public
	Manager              // PMan: an admin or manager of the project
	ProjectAdmin         // PA: an admin of the project
)

// rootLevels are the routes outside of projects, without "/api/". A name that
// ends with "/" stands for all below it that are not named.
var rootLevels = map[string]Level{
	"server/get_info":              Open,
	"auth/list_providers":          Open,
	"auth/get_next_redirect":       Open,
	"backends/list_types":          Open,
	"users/list":                   Authenticated,
	"users/get_my_user":            Authenticated,
	"users/get_user":               Authenticated,
	"users/public_keys/":           Authenticated,
	"users/refresh_token":          Authenticated,
	"users/refresh_ssh_key":        Authenticated,
	"users/create":                 GlobalAdmin,
	"users/update":                 GlobalAdmin,
	"users/delete":                 GlobalAdmin,
	"projects/list":                Authenticated,
	"projects/list_only_no_fleets": Authenticated,
	"projects/create":              Authenticated,
	"projects/delete":              Authenticated,
	"fleets/list":                  Authenticated,
	"instances/list":               Authenticated,
	"runs/list":                    Authenticated,
	"volumes/list":                 Authenticated,
	"events/list":                  Authenticated,
	"files/":                       Authenticated,
}

// projectLevels are the routes of a project, without
// "/api/project/{project}/" or "/api/projects/{project}/".
var projectLevels = map[string]Level{
	"get":            MemberOrPublic,
	"update":         ProjectAdmin,
	"set_members":    Manager,
	"add_members":    MemberOrPublic, // who may add whom is decided there
	"remove_members": Member,         // leaving is for everybody
	"backends/":      ProjectAdmin,
	"gateways/list":  MemberOrPublic,
	"gateways/get":   MemberOrPublic,
	"gateways/":      ProjectAdmin,
	"exports/list":   Member,
	"exports/":       ProjectAdmin,
	"imports/list":   Member,
	"imports/":       ProjectAdmin,
	"secrets/":       Manager,
	"fleets/":        Member,
	"instances/":     Member,
	"runs/":          Member,
	"repos/":         Member,
	"logs/":          Member,
	"metrics/":       Member,
	"gpus/list":      Member,
	"volumes/":       Member,
	"templates/list": Member,
}

// LevelOf returns the level of a route, given as a path pattern such as
// "/api/project/:project_name/runs/list" or an actual path. A route that the
// tables do not know is for global admins.
func LevelOf(route string) Level {
	path := strings.TrimPrefix(route, "/api/")
	if rest, ok := strings.CutPrefix(path, "project/"); ok {
		_, rest, _ = strings.Cut(rest, "/")
		return lookUp(projectLevels, rest)
	}
	if rest, ok := strings.CutPrefix(path, "projects/"); ok && strings.Contains(rest, "/") {
		_, rest, _ = strings.Cut(rest, "/")
		return lookUp(projectLevels, rest)
	}
	return lookUp(rootLevels, path)
}

func lookUp(levels map[string]Level, path string) Level {
	if l, ok := levels[path]; ok {
		return l
	}
	for i := len(path); i > 0; {
		i = strings.LastIndexByte(path[:i], '/')
		if l, ok := levels[path[:i+1]]; i > 0 && ok {
			return l
		}
	}
	return GlobalAdmin
}
