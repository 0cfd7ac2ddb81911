package controller

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
)

func env(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return m[name] }
}

func TestSettingsDefaults(t *testing.T) {
	t.Parallel()
	s, err := SettingsFrom(env(), "/home/u")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	want := []any{"127.0.0.1", 3000, "/home/u/.dstack/server", "http://127.0.0.1:3000", "/home/u/.dstack/server/data/sqlite.db", 50 << 20, 2}
	got := []any{s.Host, s.Port, s.Dir, s.serverURL(), s.databasePath(), s.LogQuota, s.JobNetworkMode}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func TestSettingsFromEnvironment(t *testing.T) {
	t.Parallel()
	s, err := SettingsFrom(env(
		"DSTACK_SERVER_HOST", "::1", "DSTACK_SERVER_PORT", "8080", "DSTACK_SERVER_DIR", "/d",
		"DSTACK_DATABASE_URL", "sqlite+aiosqlite:////x/y.db", "DSTACK_SERVER_CONFIG_DISABLED", "0",
		"DSTACK_SERVER_BACKGROUND_PROCESSING_DISABLED", "1", "DSTACK_DO_NOT_UPDATE_DEFAULT_PROJECT", "yes",
	), "/home/u")
	if err != nil {
		t.Fatal(err)
	}
	want := []any{"http://[::1]:8080", "/d", "/x/y.db", false, true, false}
	got := []any{s.serverURL(), s.Dir, s.databasePath(), s.NoConfig, s.NoBackground, *s.UpdateDefault}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestSettingsFaults(t *testing.T) {
	t.Parallel()
	if _, err := SettingsFrom(env("DSTACK_SERVER_PORT", "http", "DSTACK_SERVER_JOB_NETWORK_MODE", "x"), "/"); err == nil ||
		strings.Count(err.Error(), "must be a whole number") != 2 {
		t.Errorf("faults %v", err)
	}
	for want, change := range map[string]func(*Settings){
		"port 0: allowed are 1 to 65535":                  func(s *Settings) { s.Port = 0 },
		`log level "LOUD": allowed are DEBUG`:             func(s *Settings) { s.LogLevel = "LOUD" },
		`log format "xml": allowed are rich`:              func(s *Settings) { s.LogFormat = "xml" },
		"DSTACK_SERVER_JOB_NETWORK_MODE=4: allowed are 1": func(s *Settings) { s.JobNetworkMode = 4 },
		"DSTACK_SERVER_MAX_OFFERS_TRIED=0: allowed are 1": func(s *Settings) { s.OffersTried = 0 },
		"this build keeps its data in SQLite only":        func(s *Settings) { s.DatabaseURL = "postgresql+asyncpg://x" },
	} {
		s, err := SettingsFrom(env(), "/")
		if err != nil {
			t.Fatal(err)
		}
		change(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestShorten(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"/home/u/.dstack": "~/.dstack", "/home/user2": "/home/user2", "/x": "/x"} {
		if got := shorten(path, "/home/u"); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestRegistryOf(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]string{
		"ubuntu": dockerHub, "library/ubuntu:24.04": dockerHub, "docker.io/library/ubuntu": dockerHub,
		"ghcr.io/a/b:c": "ghcr.io", "localhost/x": "localhost", "localhost:5000/x": "localhost:5000", "10.0.0.1:5000/a/b@sha256:0": "10.0.0.1:5000",
	} {
		if got := registryOf(image, dockerHub); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.WriteHeader(http.StatusUnauthorized)
	}))
	host := strings.TrimPrefix(server.URL, "http://")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := newRegistries(host+"/mirror", func() time.Time { return now })
	for range 2 {
		if err := r.Reachable(t.Context(), "ubuntu"); err != nil {
			t.Error(err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times, want 1", asked)
	}
	server.Close()
	now = now.Add(2 * registryMemory)
	if err := r.Reachable(t.Context(), host+"/x"); err == nil || !strings.Contains(err.Error(), "no answer from "+host) {
		t.Errorf("of a registry that is down: %v", err)
	}
}

// TestOnlySSHProxy: users' keys stay away only if there is another way.
func TestOnlySSHProxy(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{"proxy": true, "": false} {
		var out bytes.Buffer
		settings, err := SettingsFrom(env(
			"DSTACK_SERVER_SSHPROXY_ENFORCED", "1", "DSTACK_SSHPROXY_API_TOKEN", "t", "DSTACK_SERVER_SSHPROXY_ADDRESS", address,
		), "/")
		if err != nil {
			t.Fatal(err)
		}
		s := &Server{cfg: Config{Settings: settings}, log: zerolog.New(&out)}
		if got := s.jobOptions().OnlyProxy; got != want {
			t.Errorf("address %q: only the proxy: %t", address, got)
		}
		if warned := strings.Contains(out.String(), "SSHPROXY_ENFORCED is ignored"); warned == want {
			t.Errorf("address %q: log %q", address, &out)
		}
	}
}
