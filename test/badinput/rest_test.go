//go:build e2e

package badinput

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dstack/controller/api"
	"dstack/test/lab"
)

const (
	jsonType = "application/json"
	noRef    = "0b0b0b0b-0000-4000-8000-000000000000"
)

// bodiless are the endpoints that take no body: what comes is ignored.
var bodiless = []string{
	"/api/server/get_info", "/api/users/get_my_user", "/api/projects/main/get", "/api/project/main/repos/list", "/api/project/main/secrets/list",
	"/api/users/public_keys/list", "/api/project/main/volumes/list",
	"/api/backends/list_types", "/api/project/main/templates/list", "/api/auth/list_providers", "/api/projects/list_only_no_fleets",
	"/api/project/main/exports/list", "/api/project/main/imports/list",
}

// uploads are the endpoints that take a form with a file, not JSON.
var uploads = []string{"/api/files/upload_archive", "/api/project/main/repos/upload_code"}

func encode(t *testing.T, body any) []byte {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// post sends a body and returns the status and the answer. The answer of a
// stream is cut.
func post(t *testing.T, s *lab.Server, path string, body []byte, contentType string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+lab.Token)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("%s: no answer: %v", path, err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return response.StatusCode, ""
	}
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

// shaped checks that a refusal has the body of 0.22.5: for 422 and 400 a list
// that the Python client can read.
func shaped(status int, answer string) error {
	var body struct {
		Detail []struct {
			Type string  `json:"type"`
			Loc  []any   `json:"loc"`
			Msg  string  `json:"msg"`
			Code *string `json:"code"`
		} `json:"detail"`
	}
	if err := json.Unmarshal([]byte(answer), &body); err != nil || len(body.Detail) == 0 {
		return fmt.Errorf("no list of details in %d %s: %w", status, answer, err)
	}
	for _, d := range body.Detail {
		switch {
		case status == http.StatusUnprocessableEntity && d.Type != "" && len(d.Loc) > 0 && (d.Loc[0] == "body" || d.Loc[0] == "query") && d.Msg != "":
		case status == http.StatusBadRequest && d.Msg != "" && d.Code != nil && d.Loc == nil:
		default:
			return fmt.Errorf("wrong shape: %d %s", status, answer)
		}
	}
	return nil
}

// idle starts a server that drives nothing, for requests of all kinds.
func idle(t *testing.T) *lab.Server {
	t.Helper()
	s, err := lab.StartServer(t.Context(), t.TempDir(), []string{"DSTACK_SERVER_BACKGROUND_PROCESSING_DISABLED=1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if err := undumped(s.Log()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// elsewhere are the routes that refuse for another reason than the body.
func elsewhere() []string {
	const backend = "/api/project/:project_name/backends/:backend_name/"
	return []string{"/api/sshproxy/get_upstream", backend + "config_info", backend + "get_yaml"}
}

// paths are the paths of all routes that take a POST, for project main.
func paths() []string {
	var out []string
	for _, r := range api.Routes() {
		if path, ok := strings.CutPrefix(r, "POST "); ok && !slices.Contains(elsewhere(), path) {
			out = append(out, strings.ReplaceAll(path, ":project_name", "main"))
		}
	}
	return out
}

// TestBadBodies sends what is no request to every route.
func TestBadBodies(t *testing.T) {
	s := idle(t)
	bodies := map[string][]byte{
		"cut":             []byte(`{"a":`),
		"binary":          []byte("\xff\xfe\x00"),
		"list":            []byte(`[1]`),
		"text":            []byte(`"x"`),
		"number":          []byte(`5`),
		"not a number":    []byte(`{"a":NaN}`),
		"unknown field":   []byte(`{"nope":1}`),
		"two values":      []byte(`{}{}`),
		"deep lists":      bytes.Repeat([]byte("["), 1<<20),
		"deep mappings":   bytes.Repeat([]byte(`{"a":`), 1<<20),
		"deep and closed": append(bytes.Repeat([]byte("["), 20000), bytes.Repeat([]byte("]"), 20000)...),
		"huge number":     []byte(`{"limit":1e999}`),
	}
	check := quiet(t, s)
	for _, path := range paths() {
		for name, body := range bodies {
			status, answer := post(t, s, path, body, jsonType)
			if slices.Contains(bodiless, path) {
				if status != http.StatusOK {
					t.Errorf("%s with %s: %d %s, want it ignored", path, name, status, answer)
				}
				continue
			}
			if err := shaped(status, answer); err != nil {
				t.Errorf("%s with %s: %v", path, name, err)
			}
		}
		for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded", "nonsense/;"} {
			if status, answer := post(t, s, path, []byte("{}"), contentType); !slices.Contains(bodiless, path) {
				if err := shaped(status, answer); err != nil || status != http.StatusUnprocessableEntity {
					t.Errorf("%s with content type %q: %d, %v", path, contentType, status, err)
				}
			}
		}
	}
	check()
}

// TestHugeBody sends more than the server takes: it says so, and the client
// hears it.
func TestHugeBody(t *testing.T) {
	s := idle(t)
	huge := slices.Concat([]byte(`{"run_name":"`), bytes.Repeat([]byte("a"), 40<<20), []byte(`"}`))
	for _, path := range paths() {
		status, answer := post(t, s, path, huge, jsonType)
		if slices.Contains(uploads, path) {
			if status != http.StatusBadRequest || !strings.Contains(answer, "exceeds the limit of 2.0MiB") {
				t.Errorf("%s: %d %s", path, status, answer)
			}
			continue
		}
		if status != http.StatusBadRequest || !strings.Contains(answer, "The request body is too large: at most 16 MB are allowed") {
			t.Errorf("%s: %d %s", path, status, answer)
		}
	}
}

// TestNoRoute asks for what is not there, and without the right to.
func TestNoRoute(t *testing.T) {
	for _, tt := range []struct {
		method, path, token, want string
		status                    int
	}{
		{"POST", "/api/nope", lab.Token, `{"detail":"Method Not Allowed"}`, http.StatusMethodNotAllowed},
		{"GET", "/api/runs/list", lab.Token, `{"detail":"Not Found"}`, http.StatusNotFound},
		{"POST", "/api/project/nope/runs/get", lab.Token, `{"detail":{"msg":"Not found","code":null}}`, http.StatusNotFound},
		{"POST", "/api/runs/list", "wrong", `{"detail":{"msg":"Invalid token","code":null}}`, http.StatusForbidden},
		{"POST", "/api/runs/list", "", `{"detail":"Not authenticated"}`, http.StatusUnauthorized},
	} {
		request, err := http.NewRequestWithContext(t.Context(), tt.method, shared.URL+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.token != "" {
			request.Header.Set("Authorization", "Bearer "+tt.token)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != tt.status || string(answer) != tt.want {
			t.Errorf("%s %s: %d %s, %v; want %d %s", tt.method, tt.path, response.StatusCode, answer, err, tt.status, tt.want)
		}
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
	}
}

// requests are a good body for each route that takes one. The key pair is for
// a fleet.
func requests(public, private string) map[string]any {
	type m = map[string]any
	spec := m{
		"configuration_path": "x.yml", "repo_id": nil, "repo_data": nil, "ssh_key_pub": "x", "profile": m{"name": "x"},
		"configuration": m{
			"type": "task", "commands": []any{"a"}, "env": m{"A": "b"}, "ports": []any{"8000"},
			"resources": m{"cpu": "1..", "memory": "1GB", "disk": "1GB..", "gpu": "H100:8"}, "max_duration": "1h",
		},
	}
	fleet := m{
		"configuration":      m{"type": "fleet", "name": "ff", "ssh_config": m{"user": "u", "hosts": []any{"192.0.2.1"}, "port": 22, "ssh_key": m{"public": public, "private": private}}},
		"configuration_path": "x", "profile": m{"name": "d"},
	}
	const p, moment = "/api/project/main/", "2020-01-01T00:00:00Z"
	return m{
		p + "runs/get_plan":           m{"run_spec": spec, "max_offers": 3, "full_offers": false, "unallocated_resources": false},
		p + "runs/apply":              m{"plan": m{"run_spec": spec, "current_resource": nil}, "force": false},
		p + "fleets/get_plan":         m{"spec": fleet},
		p + "fleets/apply":            m{"plan": m{"spec": fleet, "current_resource": nil}, "force": false},
		p + "fleets/list":             m{"include_imported": false},
		p + "fleets/get":              m{"name": "zz", "id": nil},
		p + "fleets/delete":           m{"names": []any{"zz"}},
		p + "fleets/delete_instances": m{"name": "zz", "instance_nums": []any{1}},
		p + "runs/get":                m{"run_name": "zz", "id": nil},
		p + "runs/stop":               m{"runs_names": []any{"zz"}, "abort": false},
		p + "runs/delete":             m{"runs_names": []any{"zz"}},
		p + "runs/watch":              m{"run_name": "zz", "id": noRef},
		p + "runs/why":                m{"run_name": "zz"},
		p + "metrics/usage":           m{"run_names": []any{"zz"}},
		p + "gpus/list":               m{"run_spec": spec, "group_by": []any{"backend", "count"}, "reverse": true},
		p + "logs/poll": m{
			"run_name": "zz", "job_submission_id": noRef, "start_time": moment, "end_time": moment,
			"descending": false, "limit": 5, "next_token": "x", "diagnose": false,
		},
		p + "logs/follow":                m{"job_submission_id": noRef, "since": moment},
		p + "repos/init":                 m{"repo_id": "a", "repo_info": m{"repo_type": "virtual"}, "repo_creds": nil},
		p + "repos/get":                  m{"repo_id": "a", "include_creds": true},
		p + "repos/delete":               m{"repos_ids": []any{"a"}},
		p + "secrets/get":                m{"name": "A"},
		p + "secrets/create_or_update":   m{"name": "A", "value": "b"},
		p + "secrets/delete":             m{"secrets_names": []any{"A"}},
		p + "instances/get":              m{"id": noRef},
		"/api/files/get_archive_by_hash": m{"hash": strings.Repeat("0", 64)},
		"/api/server/sweep":              m{"confirm": []any{"x"}},
		"/api/projects/list":             m{"include_not_joined": true, "return_total_count": true, "name_pattern": "x", "limit": 3},
		"/api/runs/list": m{
			"project_name": "main", "repo_id": "x", "username": "x", "only_active": true, "include_jobs": true,
			"job_submissions_limit": 1, "prev_submitted_at": moment, "prev_run_id": noRef, "limit": 5, "ascending": false,
		},
		"/api/fleets/list":    m{"project_name": "main", "only_active": true, "prev_created_at": moment, "prev_id": noRef, "limit": 5, "ascending": false},
		"/api/instances/list": m{"project_names": []any{"main"}, "fleet_ids": []any{noRef}, "only_active": true, "prev_created_at": moment, "prev_id": noRef, "limit": 5, "ascending": false},
		"/api/events/list": m{
			"target_projects": []any{noRef}, "include_target_types": []any{"run"}, "actors": []any{noRef},
			"prev_recorded_at": moment, "prev_id": noRef, "limit": 5, "ascending": false,
		},
	}
}

// TestWrongValues puts values of all kinds at every place of a good request
// of every route: the answer is 200 or a refusal of the right shape.
func TestWrongValues(t *testing.T) {
	s := idle(t)
	values := []any{
		nil, true, 0, -1, 1.5, json.RawMessage("1000000000000000000000000000000"), "", strings.Repeat("x", 300), "\x00",
		json.RawMessage(`"\ud800"`), []any{}, []any{nil}, []any{[]any{}}, map[string]any{}, map[string]any{"a": 1},
		"9999-99-99T00:00:00Z", "0001-01-01T00:00:00Z", "99999-01-01", "..", "-1..-5", "../../etc", "${{ run.args }}",
	}
	key := filepath.Join(t.TempDir(), "key")
	writeKey(t, key)
	all := requests(read(t, key+".pub"), read(t, key))
	maps.Copy(all, cloudRequests())
	maps.Copy(all, accountRequests(read(t, key+".pub")))
	for _, path := range paths() {
		if _, ok := all[path]; !ok && !slices.Contains(bodiless, path) && !slices.Contains(uploads, path) {
			t.Errorf("no request for %s", path)
		}
	}
	// Last what takes names and hosts from the others.
	order := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		if last := strings.Count(a, "/apply") - strings.Count(b, "/apply"); last != 0 {
			return last
		}
		return strings.Compare(a, b)
	})
	for _, path := range order {
		if status, answer := post(t, s, path, encode(t, all[path]), jsonType); status == http.StatusUnprocessableEntity {
			t.Errorf("%s takes no good request: %s", path, answer)
		}
		counts := map[int]int{}
		for variant := range variants(all[path], values) {
			body, err := json.Marshal(variant)
			if err != nil {
				t.Fatal(err)
			}
			status, answer := post(t, s, path, body, jsonType)
			counts[status]++
			if status == http.StatusOK {
				continue
			}
			if err := shaped(status, answer); err != nil {
				t.Errorf("%s with %.300s: %v", path, body, err)
			}
		}
		t.Log(path, counts)
	}
}

// variants gives node with each of its parts replaced by each of values.
func variants(node any, values []any) func(yield func(any) bool) {
	return func(yield func(any) bool) {
		switch node := node.(type) {
		case map[string]any:
			for key, part := range node {
				for changed := range replaced(part, values) {
					copied := map[string]any{}
					for k, v := range node {
						copied[k] = v
					}
					copied[key] = changed
					if !yield(copied) {
						return
					}
				}
			}
		case []any:
			for i, part := range node {
				for changed := range replaced(part, values) {
					copied := slices.Clone(node)
					copied[i] = changed
					if !yield(copied) {
						return
					}
				}
			}
		}
	}
}

// replaced gives values, then the variants of node.
func replaced(node any, values []any) func(yield func(any) bool) {
	return func(yield func(any) bool) {
		for _, v := range values {
			if !yield(v) {
				return
			}
		}
		for changed := range variants(node, values) {
			if !yield(changed) {
				return
			}
		}
	}
}
