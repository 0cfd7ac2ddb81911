package engine

import (
	"fmt"
	"testing"
	"time"

	"dstack/protocol/api"
)

type fakeStats []string

func (f *fakeStats) RunMoved(projectID, runType string, from, to api.RunStatus, since time.Duration) {
	*f = append(*f, fmt.Sprintln(projectID, runType, from, to, since))
}

func TestMovesOfRunsAreCounted(t *testing.T) {
	t.Parallel()
	var got fakeStats
	d := &decision{}
	run := testRun(api.RunSubmitted)
	setRun(d, run, api.RunProvisioning, nil)
	setRun(d, run, api.RunPending, nil)
	(&Engine{cfg: Config{Now: now}}).count(d)
	(&Engine{cfg: Config{Now: now, Stats: &got}}).count(d)
	expect(t, "counted", []string(got), []string{"p1 task submitted provisioning 1m0s\n", "p1 task provisioning pending 1m0s\n"})
}
