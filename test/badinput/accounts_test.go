//go:build e2e

package badinput

// accountRequests are good bodies for the routes of users, projects, exports and imports;
// public is an SSH key.
func accountRequests(public string) map[string]any {
	type m = map[string]any
	const users, projects, lab, moment = "/api/users/", "/api/projects/", "/api/project/main/", "2020-01-01T00:00:00Z"
	admin := m{"members": []any{m{"username": "admin", "project_role": "admin"}}}
	return m{
		users + "list": m{
			"return_total_count": true, "name_pattern": "x", "prev_created_at": moment, "prev_id": noRef, "limit": 3, "ascending": true,
		},
		users + "get_user":           m{"username": "zz"},
		users + "create":             m{"username": "zz", "global_role": "user", "email": "a@example.com", "active": true},
		users + "update":             m{"username": "zz", "global_role": "user", "email": "a@example.com", "active": true},
		users + "refresh_ssh_key":    m{"username": "zz"},
		users + "refresh_token":      m{"username": "zz"},
		users + "delete":             m{"users": []any{"zz"}},
		users + "public_keys/add":    m{"key": public, "name": "x"},
		users + "public_keys/delete": m{"ids": []any{noRef}},

		"/api/auth/get_next_redirect": m{"code": "a", "state": "b"},

		projects + "create":              m{"project_name": "zz", "is_public": true, "templates_repo": ""},
		projects + "delete":              m{"projects_names": []any{"zz"}},
		projects + "main/update":         m{"is_public": false, "templates_repo": "", "reset_templates_repo": false},
		projects + "main/set_members":    admin,
		projects + "main/add_members":    admin,
		projects + "main/remove_members": m{"usernames": []any{"zz"}},

		lab + "exports/create": m{
			"name": "zz", "is_global": false, "importer_projects": []any{"zz"}, "exported_fleets": []any{"zz"}, "exported_gateways": []any{"zz"},
		},
		lab + "exports/update": m{
			"name": "zz", "set_global": false, "unset_global": false, "add_importer_projects": []any{"zz"}, "remove_importer_projects": []any{"zz"},
			"add_exported_fleets": []any{"zz"}, "remove_exported_fleets": []any{"zz"}, "add_exported_gateways": []any{"zz"}, "remove_exported_gateways": []any{"zz"},
		},
		lab + "exports/delete": m{"name": "zz"},
		lab + "imports/delete": m{"export_name": "zz", "export_project_name": "zz"},
	}
}
