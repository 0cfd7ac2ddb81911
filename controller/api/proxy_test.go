package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/auth"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// TestProxyRoutes asks the proxy in this server for what is not there.
func TestProxyRoutes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const chat = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
	for _, tt := range []struct {
		method, path, token, body string
		headers                   []string
		status                    int
		want                      string
	}{
		{"GET", "/proxy/services/main/x/", "", "", nil, 404, `{"detail":"Service main/x not found"}`},
		{"PUT", "/proxy/services/none/x/a/b", memberToken, "x", nil, 404, `{"detail":"Service none/x not found"}`},
		{"OPTIONS", "/proxy/services/main/x/y", "", "", nil, 404, `{"detail":"Service main/x not found"}`},
		{"OPTIONS", "/proxy/services/main/x", "", "", nil, 405, `{"detail":"Method Not Allowed"}`},
		{"GET", "/proxy/services/main/x/", "", "", []string{"Upgrade", "websocket"}, 400, `{"detail":"Upgrading connections is not supported"}`},
		{"GET", "/proxy/models/main/models", "", "", nil, 403, `{"detail":"Unauthenticated or unauthorized to access project main"}`},
		{"GET", "/proxy/models/main/models", outsiderToken, "", nil, 403, `{"detail":"Unauthenticated or unauthorized to access project main"}`},
		{"GET", "/proxy/models/none/models", adminToken, "", nil, 403, `{"detail":"Unauthenticated or unauthorized to access project none"}`},
		{"GET", "/proxy/models/main/models", memberToken, "", nil, 200, `{"object":"list","data":[]}`},
		{"POST", "/proxy/models/main/chat/completions", "", chat, nil, 403, `{"detail":"Unauthenticated or unauthorized to access project main"}`},
		{"POST", "/proxy/models/main/chat/completions", memberToken, chat, nil, 404, `{"detail":"Model m not found in project main"}`},
		{"POST", "/proxy/models/main/chat/completions", memberToken, `{}`, nil, 422, `{"detail":[{"type":"missing","loc":["body","messages"]`},
		{"GET", "/proxy/models/main/x", "", "", nil, 404, `{"detail":"Not Found"}`},
	} {
		got := r.request(tt.method, tt.path, tt.token, tt.body, tt.headers...)
		if got.status != tt.status || !strings.HasPrefix(got.body, tt.want) {
			t.Errorf("%s %s: %d %s\nwant %d %s", tt.method, tt.path, got.status, got.body, tt.status, tt.want)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.server.URL+"/proxy/services/main/x?a=b", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if to := resp.Header.Get("Location"); resp.StatusCode != http.StatusPermanentRedirect || to != r.server.URL+"/proxy/services/main/x/?a=b" {
		t.Errorf("without a slash: %d to %s", resp.StatusCode, to)
	}
}

// TestProxyKnownService says what this build cannot do, to those who may know.
func TestProxyKnownService(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := post[api.Run](r, "/api/project/main/runs/apply", `{"plan":{"run_spec":{"run_name":"svc","configuration":{"type":"service","port":80,`+
		`"commands":["x"],"image":"scratch","model":"org/m"},"profile":{"name":"default"},"ssh_key_pub":"x"}},"force":false}`)
	r.write(func(tx *store.Tx) error {
		row, err := tx.Run(run.ID)
		if err != nil {
			return err
		}
		row.Status = api.RunRunning
		return tx.UpdateRun(&row)
	})
	const chat = `{"model":"org/m","messages":[]}`
	const noProxy = `{"detail":"This build of the server cannot send requests to services yet. Reach the service from your machine: ` +
		"`dstack attach svc`, or `dstack port-forward svc 80`\"}"
	for _, tt := range []struct {
		method, path, token, body string
		status                    int
		want                      string
	}{
		{"GET", "/proxy/services/main/svc/", "", "", 403, `{"detail":"Unauthenticated or unauthorized`},
		{"GET", "/proxy/services/main/svc/", outsiderToken, "", 403, `{"detail":"Unauthenticated or unauthorized`},
		{"GET", "/proxy/services/main/svc/", memberToken, "", 501, noProxy},
		{"PUT", "/proxy/services/main/svc/a/b?c=d", memberToken, "x", 501, noProxy},
		{"POST", "/proxy/models/main/chat/completions", outsiderToken, chat, 403, `{"detail":"Unauthenticated or unauthorized`},
		{"POST", "/proxy/models/main/chat/completions", memberToken, chat, 501, noProxy},
		{"GET", "/proxy/models/main/models", memberToken, "", 200, `{"object":"list","data":[{"id":"org/m","object":"model","created":`},
	} {
		got := r.request(tt.method, tt.path, tt.token, tt.body)
		if got.status != tt.status || !strings.HasPrefix(got.body, tt.want) {
			t.Errorf("%s %s: %d %s\nwant %d %s", tt.method, tt.path, got.status, got.body, tt.status, tt.want)
		}
	}
}

const (
	upstreamPath = "/api/sshproxy/get_upstream"
	proxyToken   = "proxy-token"
)

// TestUpstreamAccess lets nobody but the SSH proxy ask.
func TestUpstreamAccess(t *testing.T) {
	t.Parallel()
	const denied = `{"detail":{"msg":"Access denied","code":null}}`
	r := newRig(t)
	for _, token := range []string{"", adminToken, proxyToken} {
		if a := r.request("POST", upstreamPath, token, `{}`); a.status != 403 || a.body != denied {
			t.Errorf("without a service: %d %s", a.status, a.body)
		}
	}
	r = newRig(t, func(d *Deps) { d.SSHProxy.Token = proxyToken })
	for token, want := range map[string]int{"": 401, adminToken: 403, proxyToken: 422} {
		if a := r.request("POST", upstreamPath, token, `{}`); a.status != want {
			t.Errorf("token %q: %d %s", token, a.status, a.body)
		}
	}
	for _, id := range []string{"x", "8e00fa9f-0000-4000-8000-000000000000"} {
		if a := r.request("POST", upstreamPath, proxyToken, fmt.Sprintf(`{"id":%q}`, id)); a.status != 400 || !strings.Contains(a.body, `"code":"resource_not_exists"`) {
			t.Errorf("id %s: %d %s", id, a.status, a.body)
		}
	}
}

// TestUpstream leads to a running job, and tells its user.
func TestUpstream(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(d *Deps) { d.SSHProxy = SSHProxy{Token: proxyToken, Host: "ssh.example.com", Port: 2222} })
	spec := fmt.Sprintf(`{"configuration":{"type":"fleet","name":"lab","ssh_config":{"user":"ubuntu","port":2200,"ssh_key":{"public":"p","private":%q},
		"hosts":["10.0.0.1"],"proxy_jump":{"hostname":"jump","user":"j","identity_file":"f","ssh_key":{"public":"p","private":%q}}}},"profile":{"name":"default"}}`, aKey(), aKey())
	fleet := applyFleet(t, r, spec, nil)
	run := applyRun(t, r, runSpec("train", ""), nil)
	id := run.Jobs[0].JobSubmissions[0].ID
	set := func(change func(*store.Job)) {
		t.Helper()
		r.write(func(tx *store.Tx) error {
			job, err := tx.Job(id)
			if err != nil {
				return err
			}
			job.Status, job.InstanceID = api.JobRunning, &fleet.Instances[0].ID
			change(&job)
			return tx.UpdateJob(&job)
		})
	}
	set(func(j *store.Job) {
		j.Runtime = &api.JobRuntimeData{Ports: map[string]int{"10022": 32768}, Username: new("dev")}
	})
	r.write(func(tx *store.Tx) error {
		p, err := tx.Project(r.main.ID)
		if err != nil {
			return err
		}
		p.PrivateKey = "PROJECT"
		if err := tx.UpdateProject(&p); err != nil {
			return err
		}
		return tx.InsertPublicKey(&store.PublicKey{ID: "k", UserID: r.admin.ID, Name: "k", Type: "t", Fingerprint: "f", Key: "ssh-ed25519 UP", AddedAt: r.now()})
	})
	ask := func() string {
		t.Helper()
		a := r.request("POST", upstreamPath, proxyToken, fmt.Sprintf(`{"id":%q}`, strings.ReplaceAll(id, "-", "")))
		if a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return a.body
	}
	quoted, err := json.Marshal(aKey())
	if err != nil {
		t.Fatal(err)
	}
	key := string(quoted)
	want := `{"hosts":[{"host":"jump","port":22,"user":"j","private_key":` + key + `},{"host":"10.0.0.1","port":2200,"user":"ubuntu","private_key":` + key + `},` +
		`{"host":"localhost","port":32768,"user":"dev","private_key":"PROJECT"}],"authorized_keys":["ssh-ed25519 UP","ssh-rsa AAAA admin"]}`
	if diff := cmp.Diff(want, ask()); diff != "" {
		t.Errorf("upstream (-want +got):\n%s", diff)
	}
	keysWhen := func(change func(*store.User)) string {
		t.Helper()
		r.write(func(tx *store.Tx) error {
			u, err := tx.User(r.admin.ID)
			if err != nil {
				return err
			}
			change(&u)
			return tx.UpdateUser(&u)
		})
		_, keys, _ := strings.Cut(ask(), `"authorized_keys":`)
		return keys
	}
	if got := keysWhen(func(u *store.User) { u.Active = false }); got != "[]}" {
		t.Errorf("keys of an inactive user: %s", got)
	}
	if got := keysWhen(func(u *store.User) { u.Active, u.GlobalRole = true, auth.RoleUser }); !strings.Contains(got, "ssh-ed25519 UP") {
		t.Errorf("keys of a member: %s", got)
	}
	r.write(func(tx *store.Tx) error { return tx.RemoveMember(r.main.ID, r.admin.ID) })
	if got := keysWhen(func(*store.User) {}); got != "[]}" {
		t.Errorf("keys of who is no member any more: %s", got)
	}
	if got := keysWhen(func(u *store.User) { u.GlobalRole = auth.RoleAdmin }); !strings.Contains(got, "ssh-ed25519 UP") {
		t.Errorf("keys of a global admin: %s", got)
	}
	set(func(j *store.Job) { j.Runtime = nil })
	if got := ask(); !strings.Contains(got, `{"host":"localhost","port":10022,"user":"root"`) {
		t.Errorf("without runtime data: %s", got)
	}
	info := post[api.Run](r, "/api/project/main/runs/get", `{"run_name":"train"}`).Jobs[0].JobConnectionInfo
	hex := strings.ReplaceAll(id, "-", "")
	wantInfo := &api.JobConnectionInfo{
		AttachedSSHCommand: []string{"ssh", "train"}, ProxiedSSHCommand: []string{"ssh", hex + "@ssh.example.com", "-p", "2222"},
		SSHProxyHostname: new("ssh.example.com"), SSHProxyPort: new(2222), SSHProxyUpstreamID: &hex,
	}
	if diff := cmp.Diff(wantInfo, info); diff != "" {
		t.Errorf("connection info (-want +got):\n%s", diff)
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	const path = "/api/project/main/templates/list"
	r := newRig(t)
	if a := r.request("POST", path, memberToken, ""); a.body != "[]" {
		t.Errorf("without a repo: %s", a.body)
	}
	r = newRig(t, func(d *Deps) { d.DefaultTemplates = "https://server" })
	want := `[{"type":"template","name":"https://server","title":"T","description":null,"parameters":[],"configuration":{"type":"task"}}]`
	if a := r.request("POST", path, memberToken, ""); a.body != want {
		t.Errorf("the server's: %s", a.body)
	}
	post[any](r, "/api/projects/main/update", `{"templates_repo":"https://own"}`)
	if a := r.request("POST", path, memberToken, ""); !strings.Contains(a.body, "https://own") {
		t.Errorf("the project's own: %s", a.body)
	}
	if a := r.request("POST", path, outsiderToken, ""); a.status != 403 {
		t.Errorf("outsider: %d", a.status)
	}
}

func TestHealthChecks(t *testing.T) {
	t.Parallel()
	const path = "/api/project/main/instances/get_instance_health_checks"
	r := newRig(t)
	fleet := applyFleet(t, r, fleetSpec(t, "lab", "", "10.0.0.1"), nil)
	if a := r.request("POST", path, memberToken, `{"fleet_name":"lab","instance_num":0}`); a.body != `{"health_checks":[]}` {
		t.Errorf("nothing yet: %s", a.body)
	}
	r.write(func(tx *store.Tx) error {
		for i, s := range []api.HealthStatus{api.Healthy, api.HealthWarning} {
			at := r.now()
			h := store.HealthCheck{ID: fmt.Sprint("h", i), InstanceID: fleet.Instances[0].ID, CollectedAt: at, Status: s}
			if s == api.HealthWarning {
				h.Events = []api.HealthEvent{{Timestamp: api.At(at), Status: s, Message: "hot"}}
			}
			if err := tx.InsertHealthCheck(&h); err != nil {
				return err
			}
		}
		return nil
	})
	var got []string
	for _, h := range post[api.HealthChecks](r, path, `{"fleet_name":"lab","instance_num":0,"limit":5}`).HealthChecks {
		got = append(got, fmt.Sprint(h.Status, " ", len(h.Events)))
	}
	if diff := cmp.Diff([]string{"warning 1", "healthy 0"}, got); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
	for _, body := range []string{`{"fleet_name":"none","instance_num":0}`, `{"fleet_name":"lab","instance_num":7}`} {
		if _, code := refused(r, path, body); code != "resource_not_exists" {
			t.Errorf("%s: %s", body, code)
		}
	}
	if a := r.request("POST", path, outsiderToken, `{}`); a.status != 403 {
		t.Errorf("outsider: %d", a.status)
	}
}
