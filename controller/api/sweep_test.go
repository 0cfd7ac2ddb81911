package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"dstack/controller/store"
	"dstack/controller/sweep"
)

// sweeper has one machine that goes on until it is confirmed, and perhaps a
// volume.
type sweeper struct{ stray, volume store.Stray }

func (s *sweeper) Sweep(context.Context) (sweep.Report, error) {
	return sweep.Report{Strays: []store.Stray{s.stray, s.volume}, Missing: []string{"Project x: no answer"}}, nil
}

func (s *sweeper) Confirm(ctx context.Context, ids []string, volumes ...string) (sweep.Report, error) {
	if slices.Contains(volumes, s.volume.ID) {
		s.volume.Hold = ""
	}
	if slices.Contains(ids, s.stray.ID) {
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
	s.volume = store.Stray{
		ID: "s-2", ProjectID: r.main.ID, Backend: "aws", MachineID: "vol-1", FoundAt: r.now(), Hold: string(sweep.HoldData),
		Found: store.StrayMachine{Kind: sweep.KindVolume, Region: "us-east-1", Type: "100 GB"},
	}
	for _, c := range []struct {
		token, body string
		status      int
		has         []string
	}{
		{memberToken, `{"confirm":[]}`, http.StatusForbidden, nil},
		{adminToken, `{"confirm":[]}`, http.StatusOK, []string{
			`"id":"s-1"`, `"project_name":"main"`, `"instance_id":"i-1"`, `"price":0.1`, `"held":"more such machines`, `"trouble":null`, `"missing":["Project x: no answer"]`,
			`"kind":"volume"`, `"instance_type":"volume 100 GB"`, `"held":"it has data`,
		}},
		{adminToken, `{"confirm":["s-1"]}`, http.StatusOK, []string{`"held":null`, `"trouble":"not permitted"`, `"held":"it has data`}},
		{adminToken, `{"confirm":[],"confirm_volumes":["s-2"]}`, http.StatusOK, []string{`"held":null,"trouble":null`}},
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
