package cli

import (
	"testing"

	"dstack/cli/tunnel"
	"dstack/protocol/api"
)

// TestLateAttach gives back the ports that were taken for a submission which
// had ended meanwhile, but none that are held for the next one.
func TestLateAttach(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	wants := []tunnel.Want{{Local: port, Remote: 8000}}
	listen := func() *tunnel.Listeners {
		ports, err := tunnel.Listen(t.Context(), "", wants)
		if err != nil {
			t.Fatal(err)
		}
		return ports
	}
	f := &follower{run: api.Run{}, logOf: "next"}
	if err := f.connected(t.Context(), attachResult{submission: "first", ports: listen()}); err != nil {
		t.Fatal(err)
	}
	held := listen()
	defer held.Close()
	f.attach.ports = held
	if err := f.connected(t.Context(), attachResult{submission: "first", ports: held}); err != nil {
		t.Fatal(err)
	}
	if _, err := tunnel.Listen(t.Context(), "", wants); err == nil {
		t.Error("held ports were given back")
	}
}

// TestLeftRun: one of several jobs that is done ends the attach; one that failed
// may be submitted again.
func TestLeftRun(t *testing.T) {
	t.Parallel()
	two := api.Run{Status: api.RunRunning, Jobs: make([]api.Job, 2)}
	for name, tt := range map[string]struct {
		run   api.Run
		asked bool
		job   *api.JobSubmission
		want  bool
	}{
		"done":          {two, true, &api.JobSubmission{Status: api.JobDone}, true},
		"scaled down":   {two, true, &api.JobSubmission{Status: api.JobTerminated, TerminationReason: new(string(api.ReasonScaledDown))}, true},
		"failed":        {two, true, &api.JobSubmission{Status: api.JobFailed}, false},
		"of apply":      {two, false, &api.JobSubmission{Status: api.JobDone}, false},
		"the only one":  {api.Run{Status: api.RunRunning, Jobs: make([]api.Job, 1)}, true, &api.JobSubmission{Status: api.JobDone}, false},
		"the run ended": {api.Run{Status: api.RunTerminating, Jobs: make([]api.Job, 2)}, true, &api.JobSubmission{Status: api.JobDone}, false},
		"no job":        {two, true, nil, false},
	} {
		f := &follower{run: tt.run, attach: attachOptions{asked: tt.asked}}
		if got := f.leftRun(tt.job); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
