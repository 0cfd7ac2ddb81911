//go:build e2e

package e2ecloud

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/cloudlab"
	"dstack/test/cloudlab/moto"
	"dstack/test/lab"
)

// steps are what the events say on the way of a run on a machine of its own.
var steps = []struct {
	event string
	// ci is whether CI kills the server there.
	ci bool
}{
	{event: "Instance created for job"},
	{event: "Machine requested", ci: true},
	{event: "PENDING -> PROVISIONING"},
	{event: "has the address", ci: true},
	{event: "SSH of machine"},
	{event: "PROVISIONING -> BUSY"},
	{event: "PULLING -> RUNNING", ci: true},
	{event: "Job unassigned from instance"},
	{event: "IDLE -> TERMINATING"},
}

// TestKill ends the server with SIGKILL at each step of a run: the run goes on,
// on one machine, which goes.
func TestKill(t *testing.T) {
	s := newServer(t)
	if out := apply(t, s, "fleet", elastic); out.Exit != 0 {
		t.Fatalf("%+v", out)
	}
	for n, step := range steps {
		if !step.ci && os.Getenv("E2E_LONG") == "" {
			continue
		}
		t.Run(step.event, func(t *testing.T) {
			before := shared.cloud.Rented()
			name := fmt.Sprintf("kill-%d", n)
			submit(t, s, name, nil, "sleep 1")
			reach(t, s, name, step.event)
			restart(t, s)
			run, err := s.Finish(t.Context(), name, 2*time.Minute)
			if err != nil || run.Status != api.RunDone {
				t.Errorf("%v: %s: %s", err, run.Status, told(run))
			}
			empty(t, s)
			if got := shared.cloud.Rented() - before; got != 1 {
				t.Errorf("%d machines were rented, want 1", got)
			}
		})
	}
}

func restart(t *testing.T, s *lab.Server) {
	t.Helper()
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// reach waits for an event that came after the run was submitted.
func reach(t *testing.T, s *lab.Server, run, event string) {
	t.Helper()
	if err := lab.Wait(t.Context(), time.Minute, event, func(ctx context.Context) error {
		var list []api.Event // the newest first
		if err := s.Call(ctx, "events/list", map[string]any{"limit": 100}, &list); err != nil {
			return err
		}
		for _, e := range list {
			if strings.Contains(e.Message, event) {
				return nil
			}
			if strings.HasPrefix(e.Message, "Run submitted") {
				break
			}
		}
		return fmt.Errorf("%s: %w", run, errNotYet)
	}); err != nil {
		t.Fatal(err)
	}
}

// TestSchedules is the second part of `make chaos-cloud`: CLOUD_SCHEDULES (1)
// random schedules of faults; CLOUD_SEED says with which seed they begin.
func TestSchedules(t *testing.T) {
	for n := range number(t, "CLOUD_SCHEDULES", 1) {
		seed := number(t, "CLOUD_SEED", int(time.Now().UnixNano()%1_000_000)) + n
		t.Run(strconv.Itoa(seed), func(t *testing.T) { schedule(t, rand.New(rand.NewPCG(uint64(seed), 0))) })
	}
}

func number(t *testing.T, name string, usual int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// schedule lets some things go wrong at random moments of a run that wants to
// be tried again. However it ends: nothing is left.
func schedule(t *testing.T, r *rand.Rand) {
	s := newServer(t)
	if out := apply(t, s, "fleet", elastic+"spot_policy: spot\n"); out.Exit != 0 {
		t.Fatalf("%+v", out)
	}
	t.Cleanup(func() { calm(t) })
	t.Log(disturb(t, r))
	submit(t, s, "chaos", map[string]any{"spot_policy": "spot", "retry": map[string]any{"duration": "3m"}}, "sleep 1")
	for range r.IntN(4) {
		select { // the moment is the fault
		case <-t.Context().Done():
			return
		case <-time.After(time.Duration(r.IntN(5000)) * time.Millisecond):
		}
		machines := shared.cloud.Machines()
		if len(machines) > 0 && r.IntN(2) == 0 {
			t.Log("the machine is taken back")
			if err := shared.cloud.Reclaim(machines[0].ID); err != nil {
				t.Fatal(err)
			}
			continue
		}
		t.Log("the server is killed")
		restart(t, s)
	}
	run, err := s.Finish(t.Context(), "chaos", 4*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s %s", run.Status, told(run))
	empty(t, s)
}

// disturb plans up to three kinds of faults and says which.
func disturb(t *testing.T, r *rand.Rand) string {
	t.Helper()
	var said []string
	answers := []moto.Fault{
		{Code: "InsufficientInstanceCapacity", Status: http.StatusInternalServerError},
		{Code: "RequestLimitExceeded", Status: http.StatusServiceUnavailable},
		{Code: "InternalError", Status: http.StatusInternalServerError},
		{Code: "Unavailable", Status: http.StatusServiceUnavailable},
		{Lost: true},
	}
	for range r.IntN(4) {
		f := answers[r.IntN(len(answers))]
		f.Action = []string{"RunInstances", "DescribeInstances", "TerminateInstances"}[r.IntN(3)]
		f.Times, f.Skip = 1+r.IntN(3), r.IntN(3)
		if err := shared.cloud.Fault(f); err != nil {
			t.Fatal(err)
		}
		said = append(said, fmt.Sprintf("%+v", f))
	}
	if r.IntN(2) == 0 {
		boot := cloudlab.Boot{Seconds: r.IntN(4)}
		shared.cloud.NextBoot(boot)
		said = append(said, fmt.Sprintf("%+v", boot))
	}
	return strings.Join(said, "; ")
}
