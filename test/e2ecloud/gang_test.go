//go:build e2e

package e2ecloud

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/cloudlab"
	"dstack/test/cloudlab/moto"
)

// TestFaultsOfGang: a region has room for the first of two nodes only. The
// machine there goes, and both nodes run in the next region.
func TestFaultsOfGang(t *testing.T) {
	if os.Getenv("E2E_LONG") == "" {
		return
	}
	s := newServerIn(t, cloudlab.Config(cloudlab.Region, cloudlab.OtherRegion))
	fleet := "type: fleet\nname: cloud\nnodes: 0..2\nplacement: cluster\nspot_policy: on-demand\ninstance_types: [c5.large]\nidle_duration: 1h\n"
	if out := apply(t, s, "fleet", fleet); out.Exit != 0 {
		t.Fatalf("%+v", out)
	}
	before := shared.cloud.Rented()
	t.Cleanup(func() { calm(t) })
	full := moto.Fault{Action: "RunInstances", Code: "InsufficientInstanceCapacity", Status: http.StatusInternalServerError, Skip: 1}
	if err := shared.cloud.Fault(full); err != nil {
		t.Fatal(err)
	}
	submit(t, s, "gang", map[string]any{
		"nodes": 2, "retry": map[string]any{"on_events": []string{"no-capacity"}, "duration": "10m"}, "idle_duration": "1s",
	}, "echo $DSTACK_NODES_IPS")
	run, err := s.Finish(t.Context(), "gang", 2*time.Minute)
	if err != nil || run.Status != api.RunDone {
		t.Fatalf("%v: %s: %s", err, run.Status, told(run))
	}
	for _, m := range shared.cloud.Machines() {
		if m.Region != cloudlab.OtherRegion {
			t.Errorf("a machine is left in %s", m.Region)
		}
	}
	empty(t, s)
	if got := shared.cloud.Rented() - before; got != 3 {
		t.Errorf("%d machines were rented, want 3", got)
	}
	story := timeline(events(t, s))
	for text, want := range map[string]int{"Machine requested: aws c5.large in us-east-1": 2, "Machine requested: aws c5.large in eu-west-1": 2, "Machine refused": 1} {
		if got := strings.Count(story, text); got != want {
			t.Errorf("%d events %q, want %d", got, text, want)
		}
	}
	t.Log(story)
}
