package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// TestSteadyAnswersFollowTheRows: what is remembered is never told to another
// caller, for another request, or after a change.
func TestSteadyAnswersFollowTheRows(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	list := func(token, body string) string {
		t.Helper()
		a := r.request(http.MethodPost, "/api/runs/list", token, body)
		if a.status != http.StatusOK {
			t.Fatalf("status %d: %s", a.status, a.body)
		}
		return a.body
	}
	if got := list(adminToken, "{}"); got != "[]" {
		t.Errorf("no runs: %s", got)
	}
	run := applyRun(t, r, runSpec("train", ""), nil)
	for _, token := range []string{adminToken, memberToken} {
		if got := list(token, "{}"); !strings.Contains(got, run.ID) {
			t.Errorf("the new run is not in %s", got)
		}
	}
	if got := list(outsiderToken, "{}"); got != "[]" {
		t.Errorf("an outsider sees %s", got)
	}
	r.finish(run.ID, api.RunDone)
	for range 2 {
		if got := list(adminToken, "{}"); !strings.Contains(got, `"status":"done"`) {
			t.Errorf("the run has ended: %s", got)
		}
	}
	if got := list(adminToken, `{"only_active":true}`); got != "[]" {
		t.Errorf("active runs: %s", got)
	}
	if got := list(adminToken, `{"include_jobs":false}`); !strings.Contains(got, `"jobs":[]`) {
		t.Errorf("without jobs: %s", got)
	}
	post[any](r, runs+"delete", `{"runs_names":["train"]}`)
	if got := list(adminToken, "{}"); !strings.Contains(got, `"deleted":true`) {
		t.Errorf("the run was deleted: %s", got)
	}
	if a := r.request(http.MethodPost, "/api/runs/list", adminToken, "{}", "Content-Type", "text/plain"); a.status != http.StatusUnprocessableEntity {
		t.Errorf("another type of body: status %d", a.status)
	}
}

// TestLiveAnswersAreMadeAnew: the cost of a run grows while nothing changes.
func TestLiveAnswersAreMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := applyRun(t, r, runSpec("train", ""), nil)
	r.write(func(tx *store.Tx) error {
		jobs, err := tx.JobsByRun(run.ID)
		if err != nil {
			return err
		}
		jobs[0].Status, jobs[0].Provisioning = api.JobRunning, &api.JobProvisioningData{Price: 3600}
		return tx.UpdateJob(&jobs[0])
	})
	cost := func(path, body string) float64 {
		t.Helper()
		if strings.HasSuffix(path, "get_plan") {
			return post[api.RunPlan](r, path, body).CurrentResource.Cost
		}
		return post[[]api.Run](r, path, body)[0].Cost
	}
	for path, body := range map[string]string{"/api/runs/list": "{}", runs + "get_plan": fmt.Sprintf(`{"run_spec":%s}`, runSpec("train", ""))} {
		if before, after := cost(path, body), cost(path, body); before >= after {
			t.Errorf("%s: cost %g, then %g", path, before, after)
		}
	}
}
