package api

import (
	"net/http"
	"strings"
	"testing"

	"dstack/protocol/api"
)

const (
	envSecret  = `"env":{"T":"${{ secrets.TOKEN }}"},`
	authSecret = `"registry_auth":{"username":"u","password":"${{ secrets.TOKEN }}"},`
	noSecret   = "Failed to interpolate due to missing vars: ['secrets.TOKEN']; create what is missing with `dstack secret set TOKEN VALUE`"
)

// TestPlanOfMissingSecret warns of env, refuses registry_auth, and shows the
// value of neither.
func TestPlanOfMissingSecret(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	plan := func(spec string) string { return `{"run_spec":` + spec + `}` }
	apply := func(spec string) string {
		return `{"plan":{"run_spec":` + spec + `,"current_resource":null},"force":false}`
	}
	warned := post[api.RunPlan](r, runs+"get_plan", plan(runSpec("train", envSecret))).Warnings
	if want := "The job train-0-0 cannot start: " + noSecret; len(warned) == 0 || warned[0] != want {
		t.Errorf("warnings %q, want %q", warned, want)
	}
	for path, body := range map[string]string{runs + "get_plan": plan(runSpec("train", authSecret)), runs + "apply": apply(runSpec("train", authSecret))} {
		if msg, code := refused(r, path, body); msg != noSecret || code != "error" {
			t.Errorf("%s: %s %s", path, code, msg)
		}
	}
	post[api.RunPlan](r, runs+"get_plan", plan(strings.Replace(runSpec("train", authSecret), "ubuntu", "scratch", 1)))

	post[api.Secret](r, secrets+"create_or_update", `{"name":"TOKEN","value":"hush-hush"}`)
	for _, w := range post[api.RunPlan](r, runs+"get_plan", plan(runSpec("train", envSecret))).Warnings {
		if strings.Contains(w, "cannot start") {
			t.Errorf("with the secret: %s", w)
		}
	}
	both := runSpec("train", envSecret+authSecret)
	for _, c := range []struct{ path, body string }{
		{runs + "get_plan", plan(both)}, {runs + "apply", apply(both)}, {"/api/runs/list", "{}"}, {runs + "get", `{"run_name":"train"}`},
	} {
		a := r.request(http.MethodPost, c.path, adminToken, c.body)
		if a.status != http.StatusOK || strings.Contains(a.body, "hush-hush") || strings.Count(a.body, "${{ secrets.TOKEN }}") < 2 {
			t.Errorf("%s: %d %s", c.path, a.status, a.body)
		}
	}
}
