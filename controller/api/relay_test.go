package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/client"
	"dstack/controller/auth"
	"dstack/controller/relay"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// echoHosts have one host, on whose ports everything comes back.
type echoHosts struct {
	instance string
	port     int
}

func (h *echoHosts) Dial(_ context.Context, instanceID string, port int) (net.Conn, error) {
	if instanceID != h.instance || port != h.port {
		return nil, fmt.Errorf("nothing at port %d of %s", port, instanceID)
	}
	near, far := net.Pipe()
	go func() {
		_, _ = io.Copy(far, far)
		_ = far.Close()
	}()
	return near, nil
}

// relayRig has run "train" of the-user in project private: one job that runs,
// in replica 1, and one that waits.
type relayRig struct {
	*rig

	run   api.Run
	hosts *echoHosts
}

const (
	relayPath  = "/api/project/private/runs/train/relay"
	ownerToken = "token-of-user"
)

func newRelayRig(t *testing.T) *relayRig {
	t.Helper()
	r := &relayRig{hosts: &echoHosts{port: 32768}}
	r.rig = newRig(t, func(d *Deps) { d.Hosts, d.Relays = r.hosts, relay.New(3) })
	r.personas()
	body := `{"plan":{"run_spec":{"run_name":"train","configuration":{"type":"service","port":80,"commands":["x"],"image":"scratch","replicas":2},` +
		`"profile":{"name":"default"},"ssh_key_pub":"x"}},"force":false}`
	if a := r.request("POST", "/api/project/private/runs/apply", ownerToken, body); a.status != 200 {
		t.Fatal(a.body)
	}
	fleet := applyFleet(t, r.rig, fleetSpec(t, "lab", "", "10.0.0.1"), nil)
	r.hosts.instance = fleet.Instances[0].ID
	a := r.request("POST", "/api/project/private/runs/get", ownerToken, `{"run_name":"train"}`)
	if err := json.Unmarshal([]byte(a.body), &r.run); err != nil { //nolint:musttag // its parts read themselves
		t.Fatal(err)
	}
	r.job(1, func(j *store.Job) {
		now := r.now()
		j.Status, j.InstanceID, j.RunningAt = api.JobRunning, &r.hosts.instance, &now
		j.Runtime = &api.JobRuntimeData{Ports: map[string]int{"10022": 32768}}
	})
	return r
}

// job changes the job of a replica.
func (r *relayRig) job(replica int, change func(*store.Job)) {
	r.t.Helper()
	r.write(func(tx *store.Tx) error {
		jobs, err := tx.LatestJobsByRun(r.run.ID)
		if err != nil {
			return err
		}
		change(&jobs[replica])
		return tx.UpdateJob(&jobs[replica])
	})
}

func (r *relayRig) open(token string) (net.Conn, error) {
	r.t.Helper()
	c, err := client.New(r.server.URL, token, client.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	conn, err := c.Project("private").Relay(r.t.Context(), "train", 1, 0)
	if err == nil {
		r.t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

// mustOpen opens the relay and sends something there and back.
func (r *relayRig) mustOpen(token string) net.Conn {
	r.t.Helper()
	conn, err := r.open(token)
	if err != nil {
		r.t.Fatal(err)
	}
	r.echo(conn, "SSH-2.0-test\r\n")
	return conn
}

func (r *relayRig) echo(conn net.Conn, text string) {
	r.t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		r.t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		r.t.Fatalf("came back: %d bytes, %v", len(got), err)
	}
}

// TestRelay carries bytes both ways, and records who did it.
func TestRelay(t *testing.T) {
	t.Parallel()
	r := newRelayRig(t)
	conn := r.mustOpen(ownerToken)
	big := strings.Repeat("0123456789abcdef", 1<<16)
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, big)
		sent <- err
	}()
	got := make([]byte, len(big))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != big {
		t.Fatalf("1 MiB came back changed (%v)", err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	events := post[[]api.Event](r.rig, "/api/events/list", `{"target_runs":["`+r.run.ID+`"]}`)
	var seen []string
	for _, e := range events {
		if e.Message == "SSH connection through the server opened" {
			for _, target := range e.Targets {
				seen = append(seen, fmt.Sprint(*e.ActorUser, " ", target.Type, " ", target.Name))
			}
		}
	}
	if diff := cmp.Diff([]string{"the-user run train", "the-user job train-0-1"}, seen); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestRelayAccess lets the owner and administrators in. To others there is no
// such run.
func TestRelayAccess(t *testing.T) {
	t.Parallel()
	r := newRelayRig(t)
	r.write(func(tx *store.Tx) error {
		other := user("other", auth.RoleUser, "token-of-other", r.now())
		if err := tx.InsertUser(&other); err != nil {
			return err
		}
		p, err := tx.ProjectByName("private")
		if err != nil {
			return err
		}
		members, err := tx.Members(p.ID)
		if err != nil {
			return err
		}
		return tx.SetMembers(p.ID, append(members, store.Member{UserID: other.ID, Role: auth.RoleUser}))
	})
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}
	unknown := r.request("GET", "/api/project/private/runs/none/relay", ownerToken, "", upgrade...)
	for _, tt := range []struct {
		token, path string
		headers     []string
		status      int
		want        string
	}{
		{"", relayPath, upgrade, 401, `{"detail":"Not authenticated"}`},
		{"unknown", relayPath, upgrade, 403, `{"detail":{"msg":"Invalid token","code":null}}`},
		{outsiderToken, relayPath, upgrade, 403, `{"detail":{"msg":"Access denied","code":null}}`},
		{"token-of-other", relayPath, upgrade, 400, strings.ReplaceAll(unknown.body, "none", "train")},
		{"token-of-manager", relayPath, upgrade, 400, strings.ReplaceAll(unknown.body, "none", "train")},
		{ownerToken, relayPath, append(upgrade, "Origin", r.server.URL), 403, `{"detail":{"msg":"The relay is not for web pages","code":null}}`},
		{ownerToken, relayPath, nil, 426, `{"detail":{"msg":"This endpoint is a WebSocket`},
		{ownerToken, relayPath + "?token=" + adminToken + "&replica=x", upgrade, 422, `{"detail":[{"type":"int_parsing","loc":["query","replica"]`},
		{ownerToken, relayPath + "?replica=0", upgrade, 400, `{"detail":[{"msg":"Job train-0-0 is not running: its status is submitted"`},
		{ownerToken, relayPath + "?replica=7", upgrade, 400, `{"detail":[{"msg":"Failed to find replica=7 job=0"`},
		{ownerToken, relayPath + "?job=1", upgrade, 400, `{"detail":[{"msg":"Failed to find replica=\u003cany running\u003e job=1"`},
	} {
		if got := r.request("GET", tt.path, tt.token, "", tt.headers...); got.status != tt.status || !strings.HasPrefix(got.body, tt.want) {
			t.Errorf("%s as %q: %d %s\nwant %d %s", tt.path, tt.token, got.status, got.body, tt.status, tt.want)
		}
	}
	if unknown.status != 400 || !strings.Contains(unknown.body, "resource_not_exists") {
		t.Errorf("a run that is not there: %d %s", unknown.status, unknown.body)
	}
	for _, token := range []string{ownerToken, "token-of-admin", adminToken} {
		r.mustOpen(token)
	}
}

// TestRelayUnreachable says what is the matter.
func TestRelayUnreachable(t *testing.T) {
	t.Parallel()
	r := newRelayRig(t)
	r.job(1, func(j *store.Job) { j.Runtime.Ports = nil })
	_, err := r.open(ownerToken)
	if e, ok := errors.AsType[*client.APIError](err); !ok || !strings.Contains(e.Msg, "The server does not reach job train-0-1 now: nothing at port 10022") {
		t.Errorf("port that nobody listens on: %v", err)
	}
}

// TestRelayLimit counts the open connections of each user.
func TestRelayLimit(t *testing.T) {
	t.Parallel()
	r := newRelayRig(t)
	var open []net.Conn
	for range 3 {
		open = append(open, r.mustOpen(ownerToken))
	}
	if _, err := r.open(ownerToken); err == nil || !strings.Contains(err.Error(), "too many connections through the server") {
		t.Errorf("one too many: %v", err)
	}
	r.mustOpen(adminToken)
	if err := open[0].Close(); err != nil {
		t.Fatal(err)
	}
	// The server hears of the end a little later.
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, err := r.open(ownerToken); err == nil {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("the place is not free again: %v", err)
		}
	}
}

// TestRelayEnds cuts a connection that may not be any more.
func TestRelayEnds(t *testing.T) {
	t.Parallel()
	const withdrawn, whole = "the access to the job was withdrawn", ""
	for _, tt := range []struct {
		name string
		do   func(r *relayRig)
		want string
	}{
		{"token refreshed", func(r *relayRig) {
			if a := r.request("POST", "/api/users/refresh_token", adminToken, `{"username":"the-user"}`); a.status != 200 {
				r.t.Fatal(a.body)
			}
		}, withdrawn},
		{"no member any more", func(r *relayRig) {
			if a := r.request("POST", "/api/projects/private/remove_members", adminToken, `{"usernames":["the-user"]}`); a.status != 200 {
				r.t.Fatal(a.body)
			}
		}, withdrawn},
		{"user inactive", func(r *relayRig) {
			if a := r.request("POST", "/api/users/update", adminToken, `{"username":"the-user","global_role":"user","active":false}`); a.status != 200 {
				r.t.Fatal(a.body)
			}
		}, withdrawn},
		{"job ended", func(r *relayRig) { r.job(1, func(j *store.Job) { j.Status = api.JobDone }) }, whole},
		{"server stops", func(r *relayRig) { close(r.stopping) }, whole},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRelayRig(t)
			conn := r.mustOpen(ownerToken)
			tt.do(r)
			_, err := conn.Read(make([]byte, 1))
			if tt.want == whole && !errors.Is(err, io.EOF) || tt.want != whole && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("ended with %v, want %q", err, tt.want)
			}
			r.deps.Relays.Close() // returns: nobody is left inside
			if _, err := r.deps.Relays.Enter("x"); !errors.Is(err, relay.ErrStopping) {
				t.Errorf("after the end: %v", err)
			}
		})
	}
}

// TestRelayOutlivesChanges goes on while other things change.
func TestRelayOutlivesChanges(t *testing.T) {
	t.Parallel()
	r := newRelayRig(t)
	conn := r.mustOpen(ownerToken)
	for i := range 5 {
		r.job(0, func(j *store.Job) { j.LastProcessedAt = j.LastProcessedAt.Add(time.Duration(i+1) * time.Second) })
		r.echo(conn, "still there")
	}
	if a := r.request(http.MethodPost, "/api/users/refresh_token", adminToken, `{"username":"the-admin"}`); a.status != 200 {
		t.Fatal(a.body)
	}
	r.echo(conn, "still there")
}
