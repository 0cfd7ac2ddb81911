package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

const runs = "/api/project/main/runs/"

// runSpec is the specification of a task, as JSON; more are further fields of
// the configuration.
func runSpec(name, more string) string {
	quoted := "null"
	if name != "" {
		quoted = `"` + name + `"`
	}
	return `{"run_name":` + quoted + `,"configuration":{"type":"task","commands":["echo"],` + more + `"image":"ubuntu"},"profile":{"name":"default"}}`
}

func applyRun(t *testing.T, r *rig, spec string, current *api.Run) api.Run {
	t.Helper()
	return post[api.Run](r, runs+"apply", fmt.Sprintf(`{"plan":{"run_spec":%s,"current_resource":%s},"force":false}`, spec, jsonOf(t, current)))
}

// finish ends a run as if its job had: the engine does not run here.
func (r *rig) finish(id string, st api.RunStatus) {
	r.t.Helper()
	r.write(func(tx *store.Tx) error {
		run, err := tx.Run(id)
		if err != nil {
			return err
		}
		run.Status = st
		jobs, err := tx.JobsByRun(id)
		if err != nil {
			return err
		}
		for i := range jobs {
			jobs[i].Status, jobs[i].FinishedAt = api.JobDone, new(r.now())
			if err := tx.UpdateJob(&jobs[i]); err != nil {
				return err
			}
		}
		return tx.UpdateRun(&run)
	})
}

// ready makes an instance of fleet lab idle, with a runtime.
func (r *rig) ready(fleet api.Fleet, runtime hostapi.Runtime) {
	r.t.Helper()
	r.write(func(tx *store.Tx) error {
		in, err := tx.Instance(fleet.Instances[0].ID)
		if err != nil {
			return err
		}
		in.Status, in.TotalBlocks, in.Info = api.InstanceIdle, 1, &hostapi.Info{Runtime: runtime}
		in.Type = &api.InstanceType{Name: "instance", Resources: api.Resources{CPUs: 8, MemoryMiB: 32 << 10, Disk: api.Disk{SizeMiB: 500 << 10}, CPUArch: new("x86")}}
		return tx.UpdateInstance(&in)
	})
}

func TestRunPlan(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(d *Deps) { d.Registries = deaf{errors.New("no answer")} })
	fleet := applyFleet(t, r, fleetSpec(t, "lab", "", "10.0.0.1"), nil)
	body := `{"run_spec":` + runSpec("train", "") + `}`

	plan := post[api.RunPlan](r, runs+"get_plan", body)
	if len(plan.JobPlans) != 1 || plan.JobPlans[0].TotalOffers != 0 || len(plan.Warnings) != 1 || !strings.HasPrefix(plan.Warnings[0], "No offers: lab") {
		t.Errorf("without a ready host: %d offers, warnings %q", plan.JobPlans[0].TotalOffers, plan.Warnings)
	}
	r.ready(fleet, hostapi.Docker)
	plan = post[api.RunPlan](r, runs+"get_plan", body)
	job := plan.JobPlans[0]
	if plan.Action != "create" || job.TotalOffers != 1 || *job.MaxPrice != 0 || job.Offers[0].Availability != "idle" || job.JobSpec.JobName != "train-0-0" {
		t.Errorf("plan %+v", plan)
	}
	if len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], "registry of image ubuntu cannot be reached") {
		t.Errorf("warnings %q", plan.Warnings)
	}
	e := plan.EffectiveRunSpec
	if *e.RepoID != "none" || e.RepoData.RepoType != "virtual" || *e.SSHKeyPub != r.admin.PublicKey || *e.Configuration.Task.Priority != 0 || *e.Configuration.Task.Nodes != 1 {
		t.Errorf("effective spec %+v", e)
	}
	if plan.RunSpec.RepoID != nil || plan.RunSpec.SSHKeyPub != nil {
		t.Error("run_spec is not the one that was sent")
	}
	r.ready(fleet, hostapi.Process)
	plan = post[api.RunPlan](r, runs+"get_plan", body)
	if len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], "no isolation") {
		t.Errorf("warnings %q", plan.Warnings)
	}
	if runs := post[[]api.Run](r, "/api/runs/list", `{}`); len(runs) != 0 {
		t.Errorf("a plan made %d runs", len(runs))
	}
}

func TestRunPlanLocalIsForAdmins(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{false, true} {
		r := newRig(t, func(d *Deps) { d.LocalShared = shared })
		fleet := applyFleet(t, r, fleetSpec(t, "lab", "", "127.0.0.1"), nil)
		r.ready(fleet, hostapi.Process)
		r.write(func(tx *store.Tx) error {
			in, err := tx.Instance(fleet.Instances[0].ID)
			in.Access = store.Access{Local: true}
			return errors.Join(err, tx.UpdateInstance(&in))
		})
		offers := func(token string) int {
			a := r.request(http.MethodPost, runs+"get_plan", token, `{"run_spec":`+runSpec("train", "")+`}`)
			var plan api.RunPlan
			if err := json.Unmarshal([]byte(a.body), &plan); err != nil { //nolint:musttag // its parts read themselves
				t.Fatal(err, a.body)
			}
			return len(plan.JobPlans[0].Offers)
		}
		if n := offers(adminToken); n != 1 {
			t.Errorf("shared %t: an admin has %d offers, want 1", shared, n)
		}
		if n := offers(memberToken); (n == 1) != shared {
			t.Errorf("shared %t: a member has %d offers", shared, n)
		}
	}
}

func TestRunApply(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	spec := runSpec("train", "")
	run := applyRun(t, r, spec, nil)
	if run.Status != api.RunSubmitted || run.User != "admin" || len(run.Jobs) != 1 || run.LatestJobSubmission.ID != run.Jobs[0].JobSubmissions[0].ID {
		t.Errorf("run %+v", run)
	}
	// The same again is an update, for which the client must have seen the run.
	if plan := post[api.RunPlan](r, runs+"get_plan", `{"run_spec":`+spec+`}`); plan.Action != "update" || plan.CurrentResource.ID != run.ID {
		t.Errorf("action %s", plan.Action)
	}
	if msg, _ := refused(r, runs+"apply", `{"plan":{"run_spec":`+spec+`},"force":false}`); msg != msgResourceChanged {
		t.Errorf("without current_resource: %s", msg)
	}
	updated := applyRun(t, r, runSpec("train", `"priority":7,`), &run)
	if updated.ID != run.ID || updated.DeploymentNum != 1 || *updated.RunSpec.Configuration.Task.Priority != 7 {
		t.Errorf("updated run: %s, deployment %d", updated.ID, updated.DeploymentNum)
	}
	if msg, _ := refused(r, runs+"apply", fmt.Sprintf(`{"plan":{"run_spec":%s,"current_resource":%s},"force":false}`, spec, jsonOf(t, run))); msg != msgResourceChanged {
		t.Errorf("with an old current_resource: %s", msg)
	}
	const override = "Cannot override active run. Stop the run first."
	if msg, _ := refused(r, runs+"apply", `{"plan":{"run_spec":`+runSpec("train", `"env":{"A":"1"},`)+`},"force":true}`); msg != override {
		t.Errorf("another env: %s", msg)
	}
	r.finish(run.ID, api.RunDone)
	// What is invalid does not take the old run away.
	refused(r, runs+"apply", `{"plan":{"run_spec":`+runSpec("train", `"volumes":["vol:/data"],`)+`},"force":false}`)
	if got := post[api.Run](r, runs+"get", `{"run_name":"train"}`); got.ID != run.ID || got.Deleted {
		t.Errorf("after an invalid apply: %s, deleted %t", got.ID, got.Deleted)
	}
	second := applyRun(t, r, spec, nil)
	if second.ID == run.ID || second.DeploymentNum != 0 {
		t.Errorf("second run %s, deployment %d", second.ID, second.DeploymentNum)
	}
	if old := post[api.Run](r, runs+"get", `{"id":"`+run.ID+`"}`); !old.Deleted {
		t.Error("the finished run is not deleted")
	}
}

func TestRunNames(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pattern := regexp.MustCompile(`^[a-z]+-[a-z]+-\d+$`)
	if run := applyRun(t, r, runSpec("", ""), nil); !pattern.MatchString(*run.RunSpec.RunName) {
		t.Errorf("generated name %s", *run.RunSpec.RunName)
	}
	if run := applyRun(t, r, runSpec("", `"name":"by-config",`), nil); *run.RunSpec.RunName != "by-config" {
		t.Errorf("name %s", *run.RunSpec.RunName)
	}
	for _, name := range []string{"Upper", "under_score", "x", "ümlaut"} {
		if msg, _ := refused(r, runs+"apply", `{"plan":{"run_spec":`+runSpec(name, "")+`},"force":false}`); !strings.HasPrefix(msg, "Resource name should match regex '^[a-z][a-z0-9-]{1,40}$'") {
			t.Errorf("%s: %s", name, msg)
		}
	}
}

func TestRunRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	repo := func(fields string) string {
		return `{"run_name":"train",` + fields + `"configuration":{"type":"task","commands":["echo"]},"profile":null}`
	}
	task := func(fields string) string {
		return `{"run_name":"train","configuration":{"type":"task","commands":["echo"],` + fields + `},"profile":null}`
	}
	for name, tt := range map[string]struct{ spec, msg, code string }{
		"repo without data": {repo(`"repo_id":"r",`), "repo_id must not be set if repo_data is not set", "error"},
		"data without repo": {repo(`"repo_data":{"repo_type":"virtual"},`), "repo_data must not be set if repo_id is not set", "error"},
		"network volume":    {runSpec("train", `"volumes":["vol:/data"],`), "Volume ['vol'] not found", "resource_not_exists"},
		"amd without image": {task(`"resources":{"gpu":"MI300X"}`), "`image` must be set when the requested accelerator is not supported by the default image: ['amd']", "error"},
		"arm without image": {task(`"resources":{"cpu":"arm:2"}`), "`image` must be set when ARM CPU requested", "error"},
		"unset variable":    {task(`"env":["A"]`), "env: A has no value", "error"},
		"unknown node":      {task(`"nodes":2,"env":{"A":"${{ groups[0].nodes[0].IP_ADDRESS }}"}`), "groups IP references are only supported in commands", "error"},
		"long window":       {task(`"utilization_policy":{"min_gpu_utilization":1,"time_window":"2h"}`), "Maximum utilization_policy.time_window is 3600s", "error"},
		"arm with docker":   {task(`"docker":true,"resources":{"cpu":"arm:2"}`), "`docker: true` is not supported on ARM", "error"},
	} {
		t.Run(name, func(t *testing.T) {
			if msg, code := refused(r, runs+"get_plan", `{"run_spec":`+tt.spec+`}`); !strings.HasPrefix(msg, tt.msg) || code != tt.code {
				t.Errorf("plan: %s %q, want %s %q", code, msg, tt.code, tt.msg)
			}
		})
	}
	unknown := repo(`"repo_id":"r","repo_data":{"repo_type":"remote","repo_name":"r"},`)
	if _, code := refused(r, runs+"apply", `{"plan":{"run_spec":`+unknown+`},"force":false}`); code != "repo_does_not_exist" {
		t.Errorf("unknown repo: code %s", code)
	}
}

func TestRunList(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var ids []string
	for i := range 3 {
		run := applyRun(t, r, runSpec(fmt.Sprintf("run-%d", i), ""), nil)
		ids = append([]string{run.ID}, ids...)
	}
	r.finish(ids[2], api.RunDone)
	list := func(token, body string) []string {
		var out []api.Run
		a := r.request(http.MethodPost, "/api/runs/list", token, body)
		if err := json.Unmarshal([]byte(a.body), &out); err != nil { //nolint:musttag // its parts read themselves
			t.Fatalf("%v in %s", err, a.body)
		}
		var got []string
		for _, run := range out {
			got = append(got, run.ID)
		}
		return got
	}
	first := post[[]api.Run](r, "/api/runs/list", `{"limit":1}`)[0]
	cursor, err := json.Marshal(first.SubmittedAt)
	if err != nil {
		t.Fatal(err)
	}
	offset := first.SubmittedAt.In(time.FixedZone("", 2*3600)).Format(`"2006-01-02T15:04:05-07:00"`)
	for name, tt := range map[string]struct {
		token, body string
		want        []string
	}{
		"newest first":       {adminToken, `{}`, ids},
		"active":             {memberToken, `{"only_active":true}`, ids[:2]},
		"outsider":           {outsiderToken, `{}`, nil},
		"limit 0":            {adminToken, `{"limit":0}`, nil},
		"next page":          {adminToken, fmt.Sprintf(`{"prev_submitted_at":%s,"prev_run_id":%q}`, cursor, ids[0]), ids[1:]},
		"cursor in a zone":   {adminToken, fmt.Sprintf(`{"prev_submitted_at":%s,"prev_run_id":%q}`, offset, ids[0]), ids[1:]},
		"ascending":          {adminToken, `{"ascending":true,"limit":1}`, ids[2:]},
		"by user":            {adminToken, `{"username":"member"}`, nil},
		"by project":         {adminToken, `{"project_name":"main"}`, ids},
		"unknown project":    {adminToken, `{"project_name":"none"}`, nil},
		"repo, no project":   {adminToken, `{"repo_id":"none"}`, nil},
		"repo of a project":  {adminToken, `{"repo_id":"none","project_name":"main"}`, ids},
		"project, no member": {outsiderToken, `{"project_name":"main"}`, nil},
	} {
		if diff := cmp.Diff(tt.want, list(tt.token, tt.body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if _, code := refused(r, "/api/runs/list", `{"username":"nobody"}`); code != "resource_not_exists" {
		t.Errorf("unknown user: code %s", code)
	}
	if _, code := refused(r, "/api/runs/list", `{"repo_id":"x","project_name":"main"}`); code != "repo_does_not_exist" {
		t.Errorf("unknown repo: code %s", code)
	}
	bare := post[[]api.Run](r, "/api/runs/list", `{"include_jobs":false}`)[0]
	if bare.LatestJobSubmission != nil || len(bare.Jobs) != 0 {
		t.Errorf("include_jobs false: %+v", bare.Jobs)
	}
	none := post[[]api.Run](r, "/api/runs/list", `{"job_submissions_limit":0}`)[0]
	if len(none.Jobs) != 1 || len(none.Jobs[0].JobSubmissions) != 0 || none.LatestJobSubmission != nil {
		t.Errorf("job_submissions_limit 0: %+v", none.Jobs)
	}
}

func TestRunStopAndDelete(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := applyRun(t, r, runSpec("train", ""), nil)
	if msg, _ := refused(r, runs+"delete", `{"runs_names":["train","none"]}`); msg != "Cannot delete active runs: ['train']" {
		t.Errorf("delete of an active run: %s", msg)
	}
	post[any](r, runs+"stop", `{"runs_names":["train","none"],"abort":false}`)
	if got := post[api.Run](r, runs+"get", `{"run_name":"train"}`); got.Status != api.RunTerminating || *got.TerminationReason != "stopped_by_user" {
		t.Errorf("after stop: %s %v", got.Status, got.TerminationReason)
	}
	post[any](r, runs+"stop", `{"runs_names":["train"],"abort":true}`)
	if got := post[api.Run](r, runs+"get", `{"run_name":"train"}`); *got.TerminationReason != "aborted_by_user" {
		t.Errorf("after abort: %v", *got.TerminationReason)
	}
	r.finish(run.ID, api.RunTerminated)
	post[any](r, runs+"delete", `{"runs_names":["train"]}`)
	if _, code := refused(r, runs+"get", `{"run_name":"train"}`); code != "resource_not_exists" {
		t.Errorf("deleted run by name: code %s", code)
	}
	if got := post[api.Run](r, runs+"get", `{"id":"`+run.ID+`"}`); !got.Deleted {
		t.Error("the run is not deleted")
	}
	refused(r, runs+"get", `{}`)
}

func TestOldClients(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	applyRun(t, r, runSpec("train", `"fleets":["lab","other/lab"],`), nil)
	for version, want := range map[string]string{
		"":        `"fleets":[{"project":null,"name":"lab"},{"project":"other","name":"lab"}]`,
		"0.20.14": `"fleets":[{"project":null,"name":"lab"},{"project":"other","name":"lab"}]`,
		"0.20.13": `"fleets":["lab","other/lab"]`,
	} {
		a := r.request(http.MethodPost, runs+"get", adminToken, `{"run_name":"train"}`, versionHeader, version)
		if !strings.Contains(a.body, want) {
			t.Errorf("%s: %s is not in %s", version, want, a.body)
		}
	}
	body := `{"run_spec":` + runSpec("other", "") + `}`
	for version, want := range map[string]string{"": `"run_spec":{"run_name":"other"`, "0.22.5": `"nodes":1`} {
		a := r.request(http.MethodPost, runs+"get_plan", adminToken, body, versionHeader, version)
		before, _, _ := strings.Cut(a.body, `"effective_run_spec"`)
		if !strings.Contains(before, want) {
			t.Errorf("%s: %s is not in %s", version, want, before)
		}
	}
}

func TestEffectiveGPU(t *testing.T) {
	t.Parallel()
	image := &config.Task{RunBase: config.RunBase{Image: new("ubuntu")}}
	for name, tt := range map[string]struct {
		gpu  *config.GPU
		task *config.Task
		want string
	}{
		"none asked, default image": {nil, &config.Task{}, "nvidia"},
		"none asked, own image":     {nil, image, ""},
		"docker":                    {nil, &config.Task{RunBase: config.RunBase{Docker: new(true)}}, ""},
		"known name":                {&config.GPU{Name: []string{"h100"}}, image, "nvidia"},
		"two of one vendor":         {&config.GPU{Name: []string{"MI300X", "MI210"}}, image, "amd"},
		"two vendors":               {&config.GPU{Name: []string{"MI300X", "H100"}}, image, ""},
		"unknown name":              {&config.GPU{Name: []string{"H100", "X9"}}, image, ""},
		"a TPU":                     {&config.GPU{Name: []string{"v5litepod-8"}}, image, "google"},
		"given":                     {&config.GPU{Vendor: new("intel"), Name: []string{"H100"}}, image, "intel"},
		"no GPU":                    {&config.GPU{Count: config.Range[int]{Max: new(0)}}, &config.Task{}, ""},
	} {
		if got := deref(effectiveGPU(tt.gpu, &tt.task.RunBase).Vendor, ""); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestRunView(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	placed := &api.JobProvisioningData{Price: 2}
	run := &store.Run{ID: "r", Name: "train", Status: api.RunRunning}
	jobs := []store.Job{
		{ID: "a", SubmittedAt: at, LastProcessedAt: at.Add(30 * time.Minute), Status: api.JobFailed, Provisioning: placed},
		{ID: "b", SubmissionNum: 1, SubmittedAt: at.Add(time.Hour), Status: api.JobPulling, Provisioning: placed},
		{ID: "c", JobNum: 1, SubmittedAt: at.Add(time.Hour), Status: api.JobRunning, Spec: api.JobSpec{JobName: "train-1-0"}},
	}
	pull := func(id string) (hostapi.PullProgress, bool) { return hostapi.PullProgress{Downloaded: 5}, id == "b" }
	v := runView(runRows{run: run, jobs: jobs, runShape: runShape{submissions: 10, connection: true}, pull: pull, now: at.Add(2 * time.Hour)})
	if v.Cost != 3 { // half an hour and an hour at 2 USD
		t.Errorf("cost %g, want 3", v.Cost)
	}
	if v.LatestJobSubmission.ID != "b" || v.LatestJobSubmission.ImagePullProgress.DownloadedBytes != 5 {
		t.Errorf("latest submission %+v", v.LatestJobSubmission)
	}
	if first := v.Jobs[0].JobSubmissions[0]; !first.FinishedAt.Equal(at.Add(30*time.Minute)) || *first.JobProvisioningData.Hostname != "" || *first.JobProvisioningData.SSHPort != 22 {
		t.Errorf("first submission %+v", first)
	}
	if v.Jobs[0].JobConnectionInfo != nil {
		t.Error("a job that is not running has connection info")
	}
	if diff := cmp.Diff([]string{"ssh", "train-1-0"}, v.Jobs[1].JobConnectionInfo.AttachedSSHCommand); diff != "" {
		t.Errorf("ssh command (-want +got):\n%s", diff)
	}
}
