package engine

import (
	"encoding/json"
	"strings"
	"testing"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

func withSecrets(j *store.Job) {
	j.Spec.Env = map[string]string{"TOKEN": "${{ secrets.TOKEN }}"}
	j.Spec.RegistryAuth = &config.RegistryAuth{Username: "u", Password: "${{ secrets.TOKEN }}"}
}

// TestSecretsGoToTheHostAlone is appendix 62.
func TestSecretsGoToTheHostAlone(t *testing.T) {
	t.Parallel()
	inst := testInstance(api.InstanceBusy)
	v := jobViewOf(testRun(api.RunProvisioning), testJob(api.JobProvisioning, on(nil), withSecrets), &inst)
	v.secrets = map[string]string{"TOKEN": "hush-hush"}
	d := decideJob(v)
	expect(t, "starts", doing(d), []string{"start"})
	spec := d.effects[0].Spec
	expect(t, "sent", []string{spec.Job.Env["TOKEN"], spec.RegistryUsername, spec.RegistryPassword}, []string{"hush-hush", "u", "hush-hush"})
	stored, err := json.Marshal([]any{v.job, v.run, v.instance, d.jobs, d.runs, d.instances, d.events})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(stored), "hush-hush") {
		t.Error("the value would be stored")
	}
}

// TestMissingSecret ends a job before it takes a place, or before its host
// hears of it when the secret went meanwhile.
func TestMissingSecret(t *testing.T) {
	t.Parallel()
	const message = "Secrets interpolation error: Failed to interpolate due to missing vars: ['secrets.TOKEN']; create what is missing with `dstack secret set TOKEN VALUE`"
	inst := testInstance(api.InstanceBusy)
	for name, c := range map[string]struct {
		job  store.Job
		inst *store.Instance
		from string
	}{
		"submitted": {testJob(api.JobSubmitted, withSecrets), nil, "SUBMITTED"},
		"placed":    {testJob(api.JobProvisioning, on(nil), withSecrets), &inst, "PROVISIONING"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := jobViewOf(testRun(api.RunSubmitted), c.job, c.inst)
			d := decideJob(v)
			expect(t, "status", v.job.Status, api.JobTerminated)
			expect(t, "reason", *v.job.Reason, api.ReasonTerminatedByServer)
			expect(t, "message", *v.job.ReasonMessage, message)
			expect(t, "starts nothing", doing(d), nil)
			expect(t, "first event", told(d)[0], "Job status changed "+c.from+" -> TERMINATING. Termination reason: TERMINATED_BY_SERVER ("+message+")")
		})
	}
	started := testJob(api.JobRunning, on(&hostapi.Task{ID: "j1", State: hostapi.TaskRunning}), withSecrets)
	v := jobViewOf(testRun(api.RunRunning), started, &inst)
	decideJob(v)
	expect(t, "a secret that goes later", v.job.Status, api.JobRunning)
}
