//go:build e2e

// Package openapi holds the running server against its own OpenAPI document:
// the document is valid, and what schemathesis makes of it never gets an
// answer that it does not describe. test/ci/python.sh installs the tools.
package openapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"dstack/test/lab"
)

// checks are what is asked of each answer.
const checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance"

func tool(name string) string { return filepath.Join(lab.Home, "openapi", "bin", name) }

// TestDocument validates the document that the server serves.
func TestDocument(t *testing.T) {
	s := lab.ServerFor(t, nil)
	file := filepath.Join(t.TempDir(), "openapi.json")
	if err := os.WriteFile(file, get(t, s.URL+"/openapi.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), tool("openapi-spec-validator"), file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, page := range []string{"/api/docs", "/redoc"} {
		if text := string(get(t, s.URL+page)); !strings.Contains(text, "/openapi.json") || strings.Contains(text, "https://") {
			t.Errorf("%s is not the reference page, or needs another host", page)
		}
	}
}

// TestSchemathesis sends what the document allows, and what it does not, as an
// administrator, as a user and without a token, for SCHEMATHESIS_TIME in all
// (2 minutes).
func TestSchemathesis(t *testing.T) {
	total := 2 * time.Minute
	if text := os.Getenv("SCHEMATHESIS_TIME"); text != "" {
		var err error
		if total, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	s := lab.ServerFor(t, nil)
	user := newUser(t, s)
	dir := t.TempDir()
	// Most calls go to a project that exists.
	settings := "[parameters]\n\"path.project_name\" = \"main\"\n"
	if err := os.WriteFile(filepath.Join(dir, "schemathesis.toml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, role := range []struct{ name, token string }{{"admin", lab.Token}, {"user", user}, {"nobody", ""}} {
		t.Run(role.name, func(t *testing.T) {
			args := []string{
				"run", s.URL + "/openapi.json", "--checks", checks, "--max-time", strconv.Itoa(int(total.Seconds()) / 3),
				"--phases", "examples,coverage,fuzzing", "--request-timeout", "20", "--suppress-health-check", "all", "--warnings", "off",
				"--continue-on-failure", "--no-color",
			}
			if seed := os.Getenv("SCHEMATHESIS_SEED"); seed != "" {
				args = append(args, "--seed", seed)
			}
			if role.token != "" {
				args = append(args, "--header", "Authorization: Bearer "+role.token)
			}
			cmd := exec.CommandContext(t.Context(), tool("schemathesis"), args...)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			t.Logf("%s", tail(string(out), 20))
		})
	}
	get(t, s.URL+"/healthcheck")
	for line := range strings.Lines(s.Log()) {
		if strings.Contains(line, `"level":"ERROR"`) || strings.Contains(line, "panic") || strings.Contains(line, "goroutine ") {
			t.Errorf("in the log: %s", line)
		}
	}
}

// newUser makes a user who is in the project and gives the token.
func newUser(t *testing.T, s *lab.Server) string {
	t.Helper()
	var user struct{ Creds struct{ Token string } }
	for _, call := range []struct {
		path string
		in   any
		out  any
	}{
		{"users/create", map[string]any{"username": "somebody", "global_role": "user"}, nil},
		{"projects/main/add_members", map[string]any{"members": []any{map[string]any{"username": "somebody", "project_role": "user"}}}, nil},
		{"users/get_user", map[string]any{"username": "somebody"}, &user},
	} {
		if err := s.Call(t.Context(), call.path, call.in, call.out); err != nil {
			t.Fatal(err)
		}
	}
	return user.Creds.Token
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s", url, response.Status, body)
	}
	return body
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
