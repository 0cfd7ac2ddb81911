package controller

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"),
		goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

// output is a log that is written and read at the same time.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// config is a server in home on a free port.
func testConfig(t *testing.T, home string) (Config, *output) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := SettingsFrom(env(), home)
	if err != nil {
		t.Fatal(err)
	}
	s.Port = port
	out := &output{}
	return Config{Settings: s, Out: out, Home: home, Now: time.Now}, out
}

// start runs a server until stop is called, which returns its error.
func start(t *testing.T, cfg Config) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s, err := New(ctx, cfg)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	get(t, cfg, "/healthcheck")
	return func() error {
		cancel()
		return <-done
	}
}

func get(t *testing.T, cfg Config, path string) string {
	t.Helper()
	resp, err := http.Get(cfg.Settings.serverURL() + path) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestServerStartsTwice(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	cfg, out := testConfig(t, home)
	cfg.Settings.AdminToken = "first-token"
	cfg.ConfigureCLI = func(url, project, token string) (bool, error) {
		if url != cfg.Settings.serverURL() || project != "main" || token != "first-token" {
			t.Errorf("the CLI is given %s, %s, %s", url, project, token)
		}
		return true, nil
	}
	stop := start(t, cfg)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		if _, message, ok := strings.Cut(line, "INFO     "); ok {
			got = append(got, strings.TrimSpace(message))
		}
	}
	want := []string{
		"Initializing the default configuration...",
		"Initialized the default configuration at ~/.dstack/server/config.yml",
		"Configured the main project in ~/.dstack/config.yml",
		"The dstack server is running at " + cfg.Settings.serverURL(),
		"The admin user token is 'first-token'",
		"The admin token is first-token",
		"The dstack server 0.1.0 is running at " + cfg.Settings.serverURL(),
		"The server stops; running jobs go on",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("lines\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// A second start keeps everything; its token is not used.
	again, log := testConfig(t, home)
	again.Settings.AdminToken = "second-token"
	if err := start(t, again)(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Applying ~/.dstack/server/config.yml...", "The admin token is first-token", "The given admin token is not used"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the second start does not say %q:\n%s", want, log)
		}
	}
	for path, mode := range map[string]os.FileMode{"": 0o700, "config.yml": 0o600, "encryption.key": 0o600} {
		info, err := os.Stat(filepath.Join(again.Settings.Dir, path))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v, want mode %o", path, info, err, mode)
		}
	}
}

// TestServerTellsItsSettings: what is not as usual is in the log, as is what a
// variable of dstack 0.22.5 does not do.
func TestServerTellsItsSettings(t *testing.T) {
	t.Parallel()
	cfg, out := testConfig(t, t.TempDir())
	got, err := SettingsFrom(env("DSTACK_SERVER_JOB_NETWORK_MODE", "3", "DSTACK_SENTRY_DSN", "https://secret@x", "DSTACK_SERVER_BACKGROUND_PROCESSING_DISABLED", "1"), cfg.Home)
	if err != nil {
		t.Fatal(err)
	}
	got.Port = cfg.Settings.Port
	cfg.Settings = got
	if err := start(t, cfg)(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Job network mode: FORCED_BRIDGE (3)\n", "Background processing is disabled\n", "These environment variables have no effect here", "DSTACK_SENTRY_DSN"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out.String(), "secret@") {
		t.Errorf("a value is shown:\n%s", out)
	}
}

func TestServerMakesAToken(t *testing.T) {
	t.Parallel()
	cfg, out := testConfig(t, t.TempDir())
	cfg.Settings.NoBackground = true
	if err := start(t, cfg)(); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`The admin token is [0-9a-f]{8}-[0-9a-f]{4}-4`).MatchString(out.String()) {
		t.Errorf("no token in\n%s", out)
	}
}

func TestServerLocal(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	cfg, out := testConfig(t, home)
	cfg.Settings.NoBackground, cfg.Settings.Local, cfg.Settings.AdminToken = true, true, "token"
	stop := start(t, cfg)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, cfg.Settings.serverURL()+"/api/project/main/fleets/list", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer token")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"name":"local"`, `"backend":"remote"`, `"hostname":"127.0.0.1"`, `"hosts":["127.0.0.1"]`} {
		if !strings.Contains(string(body), want) {
			t.Errorf("%s is not in %s", want, body)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "This machine is offered as fleet local in project main") {
		t.Errorf("log:\n%s", out)
	}
	later, log := testConfig(t, home)
	later.Settings.NoBackground = true
	if err := start(t, later)(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "This machine is still offered as fleet local") {
		t.Errorf("log of a start without --local:\n%s", log)
	}
}

// TestServerRefusesToStart wants one sentence with the place and the remedy,
// and nothing changed.
func TestServerRefusesToStart(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		prepare func(t *testing.T, cfg *Config)
		want    []string
	}{
		"port in use": {func(t *testing.T, cfg *Config) {
			l, err := net.Listen("tcp", cfg.Settings.address())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		}, []string{"is in use", "--port"}},
		"no such address": {func(_ *testing.T, cfg *Config) { cfg.Settings.Host = "192.0.2.1" }, []string{"192.0.2.1", "--host"}},
		"config.yml is no YAML": {func(t *testing.T, cfg *Config) {
			write(t, cfg.Settings.configPath(), "projects: [")
		}, []string{"config.yml:1:", "nothing was changed"}},
		"config.yml has an unknown field": {func(t *testing.T, cfg *Config) {
			write(t, cfg.Settings.configPath(), "projects: []\nplugin: {}\n")
		}, []string{"config.yml:2:1: plugin", "nothing was changed"}},
		"database is no database": {func(t *testing.T, cfg *Config) {
			write(t, cfg.Settings.databasePath(), strings.Repeat("nonsense ", 100))
			write(t, filepath.Join(cfg.Settings.Dir, "encryption.key"), base64.StdEncoding.EncodeToString(make([]byte, 32)))
		}, []string{"sqlite.db", "damaged"}},
		"database is no database, and there is no key": {func(t *testing.T, cfg *Config) {
			write(t, cfg.Settings.databasePath(), strings.Repeat("nonsense ", 100))
		}, []string{"sqlite.db", "damaged"}},
		"database is another program's": {func(t *testing.T, cfg *Config) {
			write(t, cfg.Settings.databasePath(), "")
			db, err := sql.Open("sqlite", cfg.Settings.databasePath())
			if err != nil {
				t.Fatal(err)
			}
			_, err = db.ExecContext(t.Context(), "CREATE TABLE notes (text TEXT)")
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
		}, []string{"belongs to another program", "nothing was changed"}},
		"key is lost": {func(t *testing.T, cfg *Config) {
			first, _ := testConfig(t, cfg.Home)
			first.Settings.NoBackground = true
			if err := start(t, first)(); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(cfg.Settings.Dir, "encryption.key")); err != nil {
				t.Fatal(err)
			}
		}, []string{"encryption.key", "restore the file"}},
		"folder is a file": {func(t *testing.T, cfg *Config) {
			write(t, cfg.Settings.Dir, "")
		}, []string{".dstack/server: not a directory; choose another one with DSTACK_SERVER_DIR"}},
		"another server uses the folder": {func(t *testing.T, cfg *Config) {
			first, _ := testConfig(t, cfg.Home)
			first.Settings.NoBackground = true
			stop := start(t, first)
			t.Cleanup(func() { _ = stop() })
		}, []string{"another server uses the database", "DSTACK_SERVER_DIR"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, _ := testConfig(t, t.TempDir())
			tt.prepare(t, &cfg)
			s, err := New(t.Context(), cfg)
			if err == nil {
				t.Fatal("it starts", s.close(t.Context()))
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			// Nothing is left open: the port is free again, unless it was not ours.
			if !strings.Contains(name, "port") && !strings.Contains(name, "address") {
				l, err := net.Listen("tcp", cfg.Settings.address())
				if err != nil {
					t.Fatal(err)
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestServerStartsOnEmptyFile goes on after a start that was cut off before it
// made more than the file.
func TestServerStartsOnEmptyFile(t *testing.T) {
	t.Parallel()
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Settings.NoBackground = true
	path := cfg.Settings.databasePath()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := start(t, cfg)(); err != nil {
		t.Error(err)
	}
}

// TestServerTakesOver starts in the folder of a server of 0.22.5.
func TestServerTakesOver(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	cfg, out := testConfig(t, home)
	text, err := os.ReadFile("legacy/testdata/0.22.5.sql")
	if err != nil {
		t.Fatal(err)
	}
	path := cfg.Settings.databasePath()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), string(text))
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	// Its key is missing: nothing is changed, and no key is made.
	if _, err := New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "Put the keys of 0.22.5 into encryption.keys") {
		t.Fatalf("without the key: %v", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Settings.Dir, "encryption.key")); !os.IsNotExist(err) {
		t.Errorf("a key was made: %v", err)
	}
	keys := "projects: [{name: main}]\nencryption: {keys: [{type: aes, name: k1, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}\n"
	if err := os.WriteFile(filepath.Join(cfg.Settings.Dir, "config.yml"), []byte(keys), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := start(t, cfg)(); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(out.String(), "Took over the database of dstack 0.22.5"); n != 1 {
		t.Errorf("taken over %d times:\n%s", n, out)
	}
	if n := strings.Count(out.String(), "The admin token is legacy-admin"); n != 2 {
		t.Errorf("the old token was not kept:\n%s", out)
	}
}
