//go:build e2e

package e2ecloud

import (
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// TestFleet rents the machines of a fleet, runs a task on one and gives it back.
func TestFleet(t *testing.T) {
	s := newServer(t)
	out := apply(t, s, "fleet", "type: fleet\nname: rented\nnodes: 1\nresources: {cpu: 2.., memory: 1GB.., disk: 30GB..}\n")
	if out.Exit != 0 {
		t.Fatalf("%+v", out)
	}
	task := map[string]any{"image": lab.Busybox, "commands": []string{"echo from the cloud"}, "fleets": []string{"rented"}}
	if _, err := s.Submit(t.Context(), "hello", task); err != nil {
		t.Fatal(err)
	}
	run, err := s.Finish(t.Context(), "hello", 60*time.Second)
	if err != nil || run.Status != api.RunDone {
		t.Errorf("%v: %+v", err, run)
	}
	log, err := s.Logs(t.Context(), run)
	if err != nil || !strings.Contains(string(log), "from the cloud") {
		t.Errorf("log %q, %v", log, err)
	}
	empty(t, s, "rented")
	t.Log(describe(events(t, s)))
}
