package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	id1 = "11111111-1111-4111-8111-111111111111"
	id2 = "22222222-2222-4222-8222-222222222222"
	id3 = "33333333-3333-4333-8333-333333333333"
	id4 = "44444444-4444-4444-8444-444444444444"
)

func TestCompare(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, real, ours string
		want             []string
	}{
		{"equal", `{"a":[1,"x",null]}`, `{"a":[1,"x",null]}`, nil},
		{"numbers by value", `{"a":8.0}`, `{"a":8}`, nil},
		{"other number", `{"a":8.0}`, `{"a":8.1}`, []string{"a"}},
		{"number and text", `{"a":8}`, `{"a":"8"}`, []string{"a"}},
		{"null and absent", `{"a":null}`, `{}`, []string{"a"}},
		{"one more", `{}`, `{"a":1}`, []string{"a"}},
		{"length", `[1,2]`, `[1]`, []string{".length"}},
		{"order", `[1,2]`, `[2,1]`, []string{"[0]", "[1]"}},
		{"ids stand for each other", `["` + id1 + `","` + id1 + `"]`, `["` + id2 + `","` + id2 + `"]`, nil},
		{"the same id for two", `["` + id1 + `","` + id2 + `"]`, `["` + id3 + `","` + id3 + `"]`, []string{"[1]"}},
		{"two ids for one", `["` + id1 + `","` + id1 + `"]`, `["` + id3 + `","` + id4 + `"]`, []string{"[1]"}},
		{"id inside a text", `["` + id1 + `","run ` + id1 + ` ended"]`, `["` + id2 + `","run ` + id2 + ` ended"]`, nil},
		{"text around an id", `"run ` + id1 + `"`, `"job ` + id2 + `"`, []string{""}},
		{"recent times", `"2026-11-25T11:00:00.000001Z"`, `"2026-11-25T12:30:00Z"`, nil},
		{"old times", `"2020-01-01T00:00:00Z"`, `"2020-01-01T00:00:01Z"`, []string{""}},
		{"time written otherwise", `"2026-11-25T11:00:00Z"`, `"2026-11-25T11:00:00+00:00"`, []string{""}},
		{"private keys", `"-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n"`, `"-----BEGIN PRIVATE KEY-----\nxyz\n-----END PRIVATE KEY-----\n"`, nil},
		{"another kind of key", `"-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n"`, `"-----BEGIN RSA PRIVATE KEY-----\nxyz\n-----END RSA PRIVATE KEY-----\n"`, []string{""}},
		{"comment of a key", `"ssh-rsa ` + strings.Repeat("A", 50) + ` admin"`, `"ssh-rsa ` + strings.Repeat("B", 50) + ` root"`, []string{""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := newComparer(now).values("", decode([]byte(tt.real)), decode([]byte(tt.ours)))
			var paths []string
			for _, d := range got {
				paths = append(paths, d.path)
			}
			if diff := cmp.Diff(tt.want, paths); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestCompareAnswers(t *testing.T) {
	json := http.Header{"Content-Type": {"application/json"}}
	answered := func(status int, body string) answer { return answer{status, json, decode([]byte(body))} }
	fault := `{"detail":[{"type":"missing","loc":["body","a"],"msg":"Field required","input":{}}]}`
	for _, tt := range []struct {
		name       string
		real, ours answer
		sort       map[string]string
		want       []string
	}{
		{name: "status", real: answered(200, `{"a":1}`), ours: answered(400, `{}`), want: []string{"status"}},
		{name: "422 without input", real: answered(422, fault), ours: answered(422, `{"detail":[{"type":"missing","loc":["body","a"],"msg":"Field required"}]}`)},
		{name: "422 elsewhere", real: answered(422, fault), ours: answered(422, `{"detail":[{"type":"missing","loc":["body","b"],"msg":"Field required"}]}`),
			want: []string{"detail.body.a: missing", "detail.body.b: missing"}},
		{name: "422 of another kind", real: answered(422, fault), ours: answered(422, `{"detail":"no"}`), want: []string{"detail"}},
		{name: "content type", real: answered(200, `1`), ours: answer{200, http.Header{"Content-Type": {"text/plain"}}, decode([]byte(`1`))}, want: []string{"header.Content-Type"}},
		{name: "order that means nothing", real: answered(200, `[{"n":"a"},{"n":"b"}]`), ours: answered(200, `[{"n":"b"},{"n":"a"}]`), sort: map[string]string{"": "n"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var paths []string
			for _, d := range newComparer(time.Now()).answers(call{Sort: tt.sort}, tt.real, tt.ours) {
				paths = append(paths, d.path)
			}
			if diff := cmp.Diff(tt.want, paths); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestAllowance(t *testing.T) {
	c := call{Name: "plan #2", As: names{"user"}, Call: "POST /api/project/main/runs/get_plan"}
	d := difference{"detail[0].msg", `"old"`, `"new text"`}
	for _, tt := range []struct {
		a    allowance
		want bool
	}{
		{allowance{Call: "plan*", Path: new("detail*")}, true},
		{allowance{Call: "plan #2 (user)", Path: new("detail[0].msg")}, true},
		{allowance{Call: "*/runs/get_plan", Path: new("*")}, true},
		{allowance{Call: "plan", Path: new("*")}, false},
		{allowance{Call: "*", Path: new("detail")}, false},
		{allowance{Call: "*", Path: new("*"), Ours: `"new*`}, true},
		{allowance{Call: "*", Path: new("*"), Real: `"new*`}, false},
	} {
		if got := tt.a.covers(c, d); got != tt.want {
			t.Errorf("%+v: got %t", tt.a, got)
		}
	}
}

func TestRoutePatterns(t *testing.T) {
	for _, tt := range []struct {
		route, path string
		want        bool
	}{
		{"/api/runs/list", "/api/runs/list", true},
		{"/api/runs/list", "/api/runs/get", false},
		{"/api/project/{p}/runs/get", "/api/project/main/runs/get", true},
		{"/api/project/{p}/runs/get", "/api/project/main/runs", false},
		{"/proxy/services/{p}/{r}/{path}", "/proxy/services/main/run/a/b", true},
	} {
		if got := routeMatches(tt.route, tt.path); got != tt.want {
			t.Errorf("%s, %s: got %t", tt.route, tt.path, got)
		}
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "calls.yml")
	text := `
env: {A: "1"}
calls:
  - {call: runs/list, as: [admin, user], each: [{limit: 1}, {}]}
  - {name: again, call: GET /healthcheck, save: {x: a.0}}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := load(path)
	if err != nil {
		t.Fatal(err)
	}
	var titles []string
	for _, c := range s.Calls {
		titles = append(titles, c.title())
	}
	want := []string{
		"POST /api/runs/list #1 (admin)", "POST /api/runs/list #2 (admin)",
		"POST /api/runs/list #1 (user)", "POST /api/runs/list #2 (user)", "again (admin)",
	}
	if diff := cmp.Diff(want, titles); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestVariables(t *testing.T) {
	v := vars{"run": map[string]any{"id": "x"}, "id": "7"}
	got := v.fill(map[string]any{"a": "${run}", "b": []any{"no ${id}", "${nope}"}, "c": 1})
	want := map[string]any{"a": map[string]any{"id": "x"}, "b": []any{"no 7", "${nope}"}, "c": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
