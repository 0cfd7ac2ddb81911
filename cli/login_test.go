package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dstack/protocol/api"
)

// fakeProvider is a server with single sign-on: asking it for the address of
// the login brings the browser back at once.
type fakeProvider struct {
	t         *testing.T
	providers []api.OAuthProviderInfo
	projects  []api.Project
	query     string
	pages     chan string
}

func (f *fakeProvider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(v any) {
		if err := json.NewEncoder(w).Encode(v); err != nil {
			f.t.Error(err)
		}
	}
	switch r.URL.Path {
	case "/":
	case "/api/auth/list_providers":
		answer(f.providers)
	case "/api/auth/okta/authorize":
		port := *in[api.AuthorizeRequest](json.NewDecoder(r.Body)).LocalPort
		go f.browse(fmt.Sprintf("http://127.0.0.1:%d/auth/callback?%s", port, f.query))
		answer(api.AuthorizeResponse{AuthorizationURL: "https://okta.example.com/login"})
	case "/api/auth/okta/callback":
		if req := in[api.AuthCallbackRequest](json.NewDecoder(r.Body)); req.Code != "good" || req.State != "s" {
			http.Error(w, `{"detail":[{"msg":"Invalid code","code":"error"}]}`, http.StatusBadRequest)
			return
		}
		answer(api.UserWithCreds{User: api.User{Username: "ann"}, Creds: api.UserTokenCreds{Token: "new-token"}})
	case "/api/projects/list":
		if r.Header.Get("Authorization") != "Bearer new-token" {
			f.t.Errorf("projects/list with %q", r.Header.Get("Authorization"))
		}
		answer(f.projects)
	default:
		http.NotFound(w, r)
	}
}

func (f *fakeProvider) browse(address string) {
	resp, err := http.Get(address) //nolint:noctx // a test's own server
	if err != nil {
		f.pages <- err.Error()
		return
	}
	_ = resp.Body.Close()
	f.pages <- resp.Status
}

func TestLogin(t *testing.T) {
	t.Parallel()
	okta, google := api.OAuthProviderInfo{Name: "okta", Enabled: true}, api.OAuthProviderInfo{Name: "google", Enabled: true}
	off := api.OAuthProviderInfo{Name: "github"}
	two := []api.Project{{ProjectName: "main"}, {ProjectName: "other"}}
	tests := []struct {
		name      string
		providers []api.OAuthProviderInfo
		projects  []api.Project
		query     string
		args      []string
		exit      int
		out, err  string
		page      string // what the browser got; empty if it was not opened
		config    string // in the configuration
	}{
		{"two projects", []api.OAuthProviderInfo{off, okta}, two, "code=good&state=s", nil, 0,
			"Logged in as ann\nAdded main, other projects at ", "", "200 OK", "default: true\n      name: main"},
		{"no default", []api.OAuthProviderInfo{okta, google}, two[:1], "code=good&state=s", []string{"-p", "okta", "-n"}, 0,
			"Added main projects at", "", "200 OK", "token: new-token"},
		{"no project", []api.OAuthProviderInfo{okta}, []api.Project{}, "code=good&state=s", nil, 0, "not a member of any project", "", "200 OK", ""},
		{"refused", []api.OAuthProviderInfo{okta}, nil, "code=bad&state=s", nil, 1, "https://okta.example.com/login", "CLI authentication failed: Invalid code", "400 Bad Request", ""},
		{"no provider", []api.OAuthProviderInfo{off}, nil, "", nil, 1, "", "No SSO providers configured on the server.\n", "", ""},
		{"several", []api.OAuthProviderInfo{okta, google}, nil, "", nil, 1, "", "okta, google", "", ""},
		{"unknown", []api.OAuthProviderInfo{okta}, nil, "", []string{"-p", "x"}, 1, "", "Provider x not configured on the server. Available providers: okta\n", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fake := &fakeProvider{t: t, providers: tt.providers, projects: tt.projects, query: tt.query, pages: make(chan string, 1)}
			server := httptest.NewServer(fake)
			defer server.Close()
			home := t.TempDir()
			code, out, errs := runAt(t, home, server.URL, fakeStart, append([]string{"login", "--url", strings.TrimPrefix(server.URL, "http://")}, tt.args...)...)
			if code != tt.exit || !strings.Contains(out, tt.out) || !strings.Contains(errs, tt.err) {
				t.Errorf("exit code %d\n%s%s", code, out, errs)
			}
			if tt.page != "" {
				if got := <-fake.pages; got != tt.page {
					t.Errorf("the browser got %s, want %s", got, tt.page)
				}
			}
			text, err := os.ReadFile(filepath.Join(home, ".dstack", "config.yml"))
			if (err == nil) != (tt.config != "") || !strings.Contains(string(text), tt.config) {
				t.Errorf("configuration (%v):\n%s", err, text)
			}
		})
	}
}

func TestLoginNeedsServer(t *testing.T) {
	t.Parallel()
	if code, _, errs := runApp(t, "", fakeStart, "login"); code != exitUsage || !strings.Contains(errs, "required: --url") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if code, _, errs := runApp(t, "", fakeStart, "login", "--url", "127.0.0.1:1"); code != exitFailed || !strings.HasPrefix(errs, "Failed to resolve url 127.0.0.1:1") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
