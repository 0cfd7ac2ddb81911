//go:build e2e

package e2ecloud

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/cloudlab"
	"dstack/test/cloudlab/moto"
	"dstack/test/lab"
)

// zones are those of the region in moto: an offer is refused in each of them.
const zones = 6

// fault is something that goes wrong in the cloud, and what is to come of it.
type fault struct {
	name   string
	calls  []moto.Fault
	boots  []cloudlab.Boot
	status api.RunStatus
	// says is in what the user is told, rented how many machines came into being.
	says   string
	rented int
	// long is for what waits for time limits.
	long bool
}

var faults = []fault{
	{
		name:   "no capacity in the first three offers",
		calls:  []moto.Fault{{Action: "RunInstances", Code: "InsufficientInstanceCapacity", Status: http.StatusInternalServerError, Times: 3 * zones}},
		status: api.RunDone, says: "Machine refused: aws t3.small in us-east-1", rented: 1,
	},
	{
		name:   "the answer is lost after RunInstances acted",
		calls:  []moto.Fault{{Action: "RunInstances", Lost: true}},
		status: api.RunDone, rented: 1,
	},
	{
		name:   "throttling",
		calls:  []moto.Fault{{Action: "*", Code: "RequestLimitExceeded", Status: http.StatusServiceUnavailable, Times: 3}},
		status: api.RunDone, rented: 1,
	},
	{
		name:  "a machine that never boots",
		boots: []cloudlab.Boot{{Never: true}}, status: api.RunFailed, says: "The machine was not ready within", rented: 1,
	},
	{
		name:  "user-data that cloud-init does not take",
		boots: []cloudlab.Boot{{UserData: "#cloud-config\nusers: [\n"}}, status: api.RunFailed, says: "The machine was not ready within", rented: 1, long: true,
	},
}

// TestFaults shows what comes of each fault; after it nothing is left that one
// side does not know, and nothing that idles.
func TestFaults(t *testing.T) {
	for _, f := range faults {
		if f.long && os.Getenv("E2E_LONG") == "" {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			var env []string
			if len(f.boots) > 0 {
				env = append(env, "DSTACK_SERVER_BOOT_TIMEOUT_SECONDS=3")
			}
			s := newServer(t, env...) // each forgets what the cloud refused to the one before
			if out := apply(t, s, "fleet", elastic); out.Exit != 0 {
				t.Fatalf("%+v", out)
			}
			before := shared.cloud.Rented()
			t.Cleanup(func() { calm(t) })
			for _, call := range f.calls {
				if err := shared.cloud.Fault(call); err != nil {
					t.Fatal(err)
				}
			}
			shared.cloud.NextBoot(f.boots...)
			submit(t, s, "unlucky", nil, "true")
			run, err := s.Finish(t.Context(), "unlucky", 2*time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			story := told(run) + "\n" + timeline(events(t, s))
			if run.Status != f.status {
				t.Errorf("the run is %s, want %s", run.Status, f.status)
			}
			if !strings.Contains(story, f.says) {
				t.Errorf("nobody says %q: %s", f.says, told(run))
			}
			calm(t)
			empty(t, s)
			if got := shared.cloud.Rented() - before; got != f.rented {
				t.Errorf("%d machines were rented, want %d", got, f.rented)
			}
			t.Log(told(run))
		})
	}
}

func calm(t *testing.T) {
	t.Helper()
	if err := shared.cloud.Calm(); err != nil {
		t.Error(err)
	}
}

// submit submits a task that fits the fleet.
func submit(t *testing.T, s *lab.Server, name string, more map[string]any, commands ...string) {
	t.Helper()
	fields := map[string]any{
		"image": lab.Busybox, "commands": commands, "resources": map[string]any{"cpu": "2..", "memory": "1GB..", "disk": "30GB.."},
	}
	for k, v := range more {
		fields[k] = v
	}
	if _, err := s.Submit(t.Context(), name, fields); err != nil {
		t.Fatal(err)
	}
}

// told is what the user is told of a run's end.
func told(run api.Run) string {
	var parts []string
	if run.StatusMessage != "" {
		parts = append(parts, run.StatusMessage)
	}
	if j := run.LatestJobSubmission; j != nil && j.TerminationReasonMessage != nil {
		parts = append(parts, *j.TerminationReasonMessage)
	}
	return strings.Join(parts, ": ")
}

// TestSpot takes a spot machine back in the middle of a job that wants to be
// tried again.
func TestSpot(t *testing.T) {
	gate := newGate(t)
	s := newServer(t)
	if out := apply(t, s, "fleet", elastic+"spot_policy: spot\n"); out.Exit != 0 {
		t.Fatalf("%+v", out)
	}
	submit(t, s, "spot", map[string]any{
		"spot_policy": "spot", "retry": map[string]any{"on_events": []string{"interruption"}, "duration": "10m"},
	}, "trap 'echo told; exit 1' TERM; wget -q -O - "+gate.url+" & wait $!")
	gate.await(t, 1)
	machines := shared.cloud.Machines()
	if len(machines) != 1 || !machines[0].Spot {
		t.Fatalf("machines: %+v", machines)
	}
	if err := shared.cloud.Interrupt(machines[0].ID, 8*time.Second); err != nil {
		t.Fatal(err)
	}
	gate.await(t, 2)
	gate.open()
	run, err := s.Finish(t.Context(), "spot", time.Minute)
	if err != nil || run.Status != api.RunDone {
		t.Errorf("%v: %s: %s", err, run.Status, told(run))
	}
	empty(t, s)
	t.Log(timeline(events(t, s)))
}

// gate is an address at which jobs wait until the test lets them go.
type gate struct {
	url    string
	opened chan struct{}
	came   atomic.Int32
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{opened: make(chan struct{})}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.came.Add(1)
		select {
		case <-g.opened:
		case <-r.Context().Done():
		}
		_, _ = fmt.Fprintln(w, "through")
	}))
	listener, err := net.Listen("tcp", lab.Gateway+":0")
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	server.Listener = listener
	server.Start()
	t.Cleanup(server.CloseClientConnections)
	t.Cleanup(server.Close)
	g.url = server.URL
	return g
}

func (g *gate) open() { close(g.opened) }

// await waits until so many jobs came.
func (g *gate) await(t *testing.T, jobs int32) {
	t.Helper()
	if err := lab.Wait(t.Context(), time.Minute, fmt.Sprintf("job %d", jobs), func(context.Context) error {
		if g.came.Load() < jobs {
			return errNotYet
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
