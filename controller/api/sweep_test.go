package api

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"dstack/controller/store"
	"dstack/controller/sweep"
)

// sweeper has one machine that goes on until it is confirmed.
type sweeper struct{ stray store.Stray }

func (s *sweeper) Sweep(context.Context) (sweep.Report, error) {
	return sweep.Report{Strays: []store.Stray{s.stray}, Missing: []string{"Project x: no answer"}}, nil
}

func (s *sweeper) Confirm(ctx context.Context, ids []string) (sweep.Report, error) {
	if ids[0] == s.stray.ID {
		s.stray.Hold, s.stray.Trouble = "", "not permitted"
	}
	return s.Sweep(ctx)
}

func TestSweep(t *testing.T) {
	t.Parallel()
	s := &sweeper{}
	r := newRig(t, func(d *Deps) { d.Sweeper = s })
	s.stray = store.Stray{
		ID: "s-1", ProjectID: r.main.ID, Backend: "aws", MachineID: "i-1", FoundAt: r.now(), Hold: string(sweep.HoldMany),
		Found: store.StrayMachine{Region: "us-east-1", Type: "c5.large", CreatedAt: r.now(), Price: 0.1},
	}
	for _, c := range []struct {
		token, body string
		status      int
		has         []string
	}{
		{memberToken, `{"confirm":[]}`, http.StatusForbidden, nil},
		{adminToken, `{"confirm":[]}`, http.StatusOK, []string{
			`"id":"s-1"`, `"project_name":"main"`, `"instance_id":"i-1"`, `"price":0.1`, `"held":"more such machines`, `"trouble":null`, `"missing":["Project x: no answer"]`,
		}},
		{adminToken, `{"confirm":["s-1"]}`, http.StatusOK, []string{`"held":null`, `"trouble":"not permitted"`}},
	} {
		got := r.request(http.MethodPost, "/api/server/sweep", c.token, c.body)
		if got.status != c.status {
			t.Errorf("%s: status %d: %s", c.body, got.status, got.body)
		}
		for _, part := range c.has {
			if !strings.Contains(got.body, part) {
				t.Errorf("%s: no %s in %s", c.body, part, got.body)
			}
		}
	}
}
