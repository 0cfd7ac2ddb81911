package api

import (
	"net/http"
	"strings"
	"testing"

	"dstack/controller/auth"
)

// TestRoutesHaveLevels demands an entry of its own in auth's table for each
// route: what nobody thought of is for global admins only.
func TestRoutesHaveLevels(t *testing.T) {
	t.Parallel()
	all := routes()
	for _, r := range proxyRoutes() {
		all = append(all, route{path: r.path})
	}
	for _, r := range all {
		level, ok := auth.LevelOf(r.path)
		if !ok {
			t.Errorf("%s has no level: write it into controller/auth/routes.go", r.path)
		}
		if strings.HasPrefix(r.path, "/api/project") && strings.Contains(r.path, ":project_name") && level < auth.Importer {
			t.Errorf("%s of a project is open to everybody", r.path)
		}
	}
}

// TestOrderOfChecks sends requests with several things wrong: the first check
// in the order of rest-api.md 1 answers.
func TestOrderOfChecks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const stop = "/api/project/main/runs/stop"
	tests := []struct {
		name, method, path, token, body string
		headers                         []string
		status                          int
		want                            string
	}{
		{
			"version first", "POST", stop, "", "{", []string{versionHeader, "0.23.0"}, 400,
			`{"detail":[{"msg":"The client/CLI version (0.23.0) is incompatible with the server version (0.22.5).","code":"error"}]}`,
		},
		{"malformed version", "POST", stop, "", "{", []string{versionHeader, "x"}, 400, `{"detail":[{"msg":"Invalid version: x","code":null}]}`},
		{"then the token", "POST", "/api/project/none/runs/stop", "", "{", nil, 401, `{"detail":"Not authenticated"}`},
		{"wrong token", "POST", "/api/project/none/runs/stop", "wrong", "{", nil, 403, `{"detail":{"msg":"Invalid token","code":null}}`},
		{"then the project", "POST", "/api/project/none/runs/stop", adminToken, "{", nil, 404, `{"detail":{"msg":"Not found","code":null}}`},
		{"then the role", "POST", stop, outsiderToken, "{", nil, 403, `{"detail":{"msg":"Access denied","code":null}}`},
		{"then the body", "POST", stop, memberToken, `{"runs_names":[]}`, nil, 422, `{"detail":[{"type":"missing","loc":["body","abort"],"msg":`},
		{"unknown fields", "POST", stop, memberToken, `{"runs_names":[],"abort":false,"x":1}`, nil, 422, `{"detail":[{"type":"extra_forbidden","loc":["body","x"],"msg":`},
		{"no JSON", "POST", stop, memberToken, `{`, nil, 422, `{"detail":[{"type":"json_invalid"`},
		{"no body", "POST", stop, memberToken, ``, nil, 422, `{"detail":[{"type":"missing","loc":["body"]`},
		{"content type", "POST", stop, memberToken, `{"runs_names":[],"abort":false}`, []string{"Content-Type", "text/plain"}, 422, `{"detail":[{"type":"model_attributes_type"`},
		{"empty answer", "POST", stop, memberToken, `{"runs_names":[],"abort":false}`, nil, 200, `null`},
		{"any case of the project", "POST", "/api/project/MAIN/runs/stop", memberToken, `{"runs_names":[],"abort":false}`, nil, 200, `null`},
		{"unknown route", "POST", "/api/nothing", adminToken, ``, nil, 405, `{"detail":"Method Not Allowed"}`},
		{"unknown route, too new", "POST", "/api/nothing", adminToken, ``, []string{versionHeader, "9.0.0"}, 405, `{"detail":"Method Not Allowed"}`},
		{"trailing slash", "POST", stop + "/", adminToken, ``, nil, 405, `{"detail":"Method Not Allowed"}`},
		{"wrong method", "GET", stop, adminToken, ``, nil, 404, `{"detail":"Not Found"}`},
		{"open", "POST", "/api/server/get_info", "", ``, nil, 200, `{"server_version":"0.22.5"}`},
		{"health", "GET", "/healthcheck", "", ``, []string{versionHeader, "9.0.0"}, 200, `{"status":"running"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := r.request(tt.method, tt.path, tt.token, tt.body, tt.headers...)
			if got.status != tt.status || !strings.HasPrefix(got.body, tt.want) {
				t.Errorf("%d %s\nwant %d %s", got.status, got.body, tt.status, tt.want)
			}
			if tt.status == http.StatusUnauthorized && got.header.Get("WWW-Authenticate") != "Bearer" {
				t.Error("401 has no WWW-Authenticate: Bearer")
			}
		})
	}
}

// TestFaultInside hides a failure of the server from the caller.
func TestFaultInside(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(d *Deps) { d.Engine = nil })
	got := r.request(http.MethodPost, "/api/project/main/runs/stop", adminToken, `{"runs_names":[],"abort":false}`)
	if got.status != http.StatusInternalServerError || got.body != "Internal Server Error" || !strings.HasPrefix(got.header.Get("Content-Type"), "text/plain") {
		t.Errorf("%d %s %s", got.status, got.header.Get("Content-Type"), got.body)
	}
}
