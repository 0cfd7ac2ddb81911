//go:build e2e

package e2ecloud

import (
	"testing"
	"time"

	"dstack/test/lab"
)

// TestFleet rents the machines of a fleet, runs a task on one and gives it back.
func TestFleet(t *testing.T) {
	s := newServer(t)
	out := apply(t, s, "fleet", "type: fleet\nname: rented\nnodes: 1\nresources: {cpu: 2.., memory: 1GB.., disk: 30GB..}\n")
	t.Logf("%+v", out)
	if out.Exit != 0 {
		t.Fatalf("%+v", out)
	}
	run, err := s.Submit(t.Context(), "hello", map[string]any{"image": lab.Busybox, "commands": []string{"echo from the cloud"}, "fleets": []string{"rented"}})
	if err != nil {
		t.Fatal(err)
	}
	if run, err = s.Finish(t.Context(), "hello", 60*time.Second); err != nil || run.Status != "done" {
		t.Errorf("%v: %+v", err, run)
	}
	log, err := s.Logs(t.Context(), run)
	t.Logf("%q %v", log, err)
	empty(t, s, "rented")
	t.Log(describe(events(t, s)), s.Log())
}
