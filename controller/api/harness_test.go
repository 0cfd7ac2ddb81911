package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"dstack/controller/archives"
	"dstack/controller/auth"
	"dstack/controller/backends"
	"dstack/controller/engine"
	"dstack/controller/engine/jobspec"
	"dstack/controller/hosts"
	"dstack/controller/logs"
	"dstack/controller/store"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

// noHosts are hosts that the engine never gets to: it does not run here.
type noHosts struct{}

func (noHosts) Ensure(hosts.Target) {}
func (noHosts) Forget(string)       {}

func (noHosts) ServeJob(string, string) {}

func (noHosts) StartTask(context.Context, string, string, hostapi.TaskSpec) (hostapi.Task, error) {
	return hostapi.Task{}, errors.ErrUnsupported
}

func (noHosts) StopTask(context.Context, string, string, hostapi.StopTask) error {
	return errors.ErrUnsupported
}
func (noHosts) RemoveTask(context.Context, string, string) error { return errors.ErrUnsupported }
func (noHosts) Uninstall(context.Context, hosts.Target) error    { return errors.ErrUnsupported }

// deaf are registries that do not answer.
type deaf struct{ err error }

func (d deaf) Reachable(context.Context, string) error { return d.err }

// gitRepos are git repos: those whose URL begins with https can be read.
type gitRepos struct{}

func (gitRepos) Check(_ context.Context, url string) error {
	if strings.HasPrefix(url, "https") {
		return nil
	}
	return errors.New("no such repo")
}

// List gives one template, called like the repo.
func (gitRepos) List(_ context.Context, url string) []config.Template {
	if !strings.HasPrefix(url, "https") {
		return nil
	}
	return []config.Template{{Type: "template", Name: url, Title: "T", Configuration: json.RawMessage(`{"type":"task"}`)}}
}

// rig is the API on a real database, with the engine's wishes but no host.
type rig struct {
	t        *testing.T
	server   *httptest.Server
	store    *store.Store
	logs     *logs.Store
	engine   *engine.Engine
	changes  *Changes
	deps     *Deps
	main     store.Project
	admin    store.User
	ticks    atomic.Int64
	stopping chan struct{}
}

const (
	adminToken    = "admin-token"
	memberToken   = "member-token"
	outsiderToken = "outsider-token"
)

// now is a clock that ticks a second with each look.
func (r *rig) now() time.Time {
	return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC).Add(time.Duration(r.ticks.Add(1)) * time.Second)
}

// newRig makes project main with an admin, a member and an outsider.
func newRig(t *testing.T, change ...func(*Deps)) *rig {
	t.Helper()
	r := &rig{t: t, changes: NewChanges(), stopping: make(chan struct{})}
	var err error
	r.store, err = store.Open(t.Context(), store.Options{Memory: true, AfterCommit: func() error {
		r.changes.Notify()
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.logs = logs.New(logs.Options{Dir: t.TempDir()})
	r.engine = engine.New(engine.Config{
		Store: r.store, Hosts: noHosts{}, Now: r.now, NewID: uuid.NewString, Log: zerolog.Nop(), Jobs: jobspec.Options{},
	})
	r.seed()
	r.deps = &Deps{
		Store: r.store, Logs: r.logs, Engine: r.engine, Registries: deaf{}, Policy: auth.Policy(config.StandardPermissions()),
		ProjectQuota: 10, TemplatesRepos: gitRepos{}, Backends: backends.Clouds{},
		Blobs: archives.New(t.TempDir(), nil, ""), UploadLimit: 2 << 20, Changes: r.changes,
		Limits: RunLimits{MetricsWindow: 3600, MaxProbes: 10, MaxProbeTimeout: 300}, Now: r.now, Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel), Stopping: r.stopping,
	}
	for _, c := range change {
		c(r.deps)
	}
	r.server = httptest.NewServer(New(*r.deps))
	t.Cleanup(func() {
		r.server.Close()
		if err := errors.Join(r.logs.Close(), r.store.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) seed() {
	r.t.Helper()
	r.admin = user("admin", auth.RoleAdmin, adminToken, r.now())
	member, outsider := user("member", auth.RoleUser, memberToken, r.now()), user("outsider", auth.RoleUser, outsiderToken, r.now())
	r.main = store.Project{ID: uuid.NewString(), Name: "main", OwnerID: r.admin.ID, CreatedAt: r.now()}
	r.write(func(tx *store.Tx) error {
		for _, u := range []*store.User{&r.admin, &member, &outsider} {
			if err := tx.InsertUser(u); err != nil {
				return err
			}
		}
		if err := tx.InsertProject(&r.main); err != nil {
			return err
		}
		return tx.SetMembers(r.main.ID, []store.Member{{UserID: r.admin.ID, Role: auth.RoleAdmin}, {UserID: member.ID, Role: auth.RoleUser}})
	})
}

func user(name, role, token string, at time.Time) store.User {
	return store.User{
		ID: uuid.NewString(), Name: name, GlobalRole: role, Active: true, Token: token,
		PublicKey: "ssh-rsa AAAA " + name + "\n", PrivateKey: "PRIVATE", CreatedAt: at,
	}
}

func (r *rig) write(fn func(*store.Tx) error) {
	r.t.Helper()
	if err := r.store.Write(r.t.Context(), fn); err != nil {
		r.t.Fatal(err)
	}
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   string
}

// request sends a request as the owner of the token; headers are pairs.
func (r *rig) request(method, path, token, body string, headers ...string) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.server.URL+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}

// post sends a body as the admin and decodes the answer, which must be 200.
func post[Out any](r *rig, path string, body any) Out {
	r.t.Helper()
	a := r.request(http.MethodPost, path, adminToken, jsonOf(r.t, body))
	var out Out
	if a.status != http.StatusOK {
		r.t.Fatalf("%s: status %d: %s", path, a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &out); err != nil {
		r.t.Fatalf("%s: %v in %s", path, err, a.body)
	}
	return out
}

// refused sends a body as the admin and returns the message and code of the
// 400 that it must get.
func refused(r *rig, path string, body any) (msg, code string) {
	r.t.Helper()
	a := r.request(http.MethodPost, path, adminToken, jsonOf(r.t, body))
	if a.status != http.StatusBadRequest {
		r.t.Fatalf("%s: status %d, want 400: %s", path, a.status, a.body)
	}
	var got struct {
		Detail []map[string]any `json:"detail"`
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || len(got.Detail) != 1 {
		r.t.Fatalf("%s: %v in %s", path, err, a.body)
	}
	for key := range got.Detail[0] {
		if key != "msg" && key != "code" && key != "fields" {
			r.t.Errorf("%s: a 400 has the key %q, which crashes the Python client", path, key)
		}
	}
	msg, _ = got.Detail[0]["msg"].(string)
	code, _ = got.Detail[0]["code"].(string)
	return msg, code
}

// jsonOf is a body as JSON; a string is one already.
func jsonOf(t *testing.T, body any) string {
	t.Helper()
	if s, ok := body.(string); ok {
		return s
	}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
