package api

import (
	"net/http"
	"reflect"

	"dstack/protocol/api"
)

// accountRoutes are the endpoints of users, projects, exports and imports.
func accountRoutes() []route {
	const p, lending = "/api/projects/:project_name", "/api/project/:project_name"
	post := func(path string, e endpoint) route { return route{http.MethodPost, path, e} }
	return []route{
		post("/api/users/list", handle((*API).listUsers).answers(reflect.TypeFor[[]api.User](), reflect.TypeFor[api.UsersInfoList]())),
		post("/api/users/get_my_user", handle((*API).getMyUser)),
		post("/api/users/get_user", handle((*API).getUser)),
		post("/api/users/create", handle((*API).createUser)),
		post("/api/users/update", handle((*API).updateUser)),
		post("/api/users/refresh_ssh_key", handle((*API).refreshSSHKey)),
		post("/api/users/refresh_token", handle((*API).refreshToken)),
		post("/api/users/delete", handle((*API).deleteUsers)),
		post("/api/users/public_keys/list", handle((*API).listPublicKeys)),
		post("/api/users/public_keys/add", handle((*API).addPublicKey)),
		post("/api/users/public_keys/delete", handle((*API).deletePublicKeys)),
		post("/api/auth/list_providers", handle((*API).listProviders)),
		post("/api/auth/get_next_redirect", handle((*API).getNextRedirect)),

		post("/api/projects/list", steady((*API).listProjects).answers(reflect.TypeFor[[]api.Project](), reflect.TypeFor[api.ProjectsInfoList]())),
		post("/api/projects/list_only_no_fleets", handle((*API).listEmptyProjects)),
		post("/api/projects/create", handle((*API).createProject)),
		post("/api/projects/delete", handle((*API).deleteProjects)),
		post(p+"/get", handle((*API).getProject)),
		post(p+"/set_members", handle((*API).setMembers)),
		post(p+"/add_members", handle((*API).addMembers)),
		post(p+"/remove_members", handle((*API).removeMembers)),
		post(p+"/update", handle((*API).updateProject)),

		post(lending+"/exports/create", handle((*API).createExport)),
		post(lending+"/exports/update", handle((*API).updateExport)),
		post(lending+"/exports/delete", handle((*API).deleteExport)),
		post(lending+"/exports/list", handle((*API).listExports).answers(reflect.TypeFor[api.ListExportsResponse](), reflect.TypeFor[[]api.Export]())),
		post(lending+"/imports/list", handle((*API).listImports).answers(reflect.TypeFor[api.ListImportsResponse](), reflect.TypeFor[[]api.Import]())),
		post(lending+"/imports/delete", handle((*API).deleteImport)),
	}
}
