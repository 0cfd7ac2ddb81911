//go:build e2e

package wire

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"dstack/controller/auth"
	"dstack/controller/engine/jobspec"
	"dstack/controller/logs"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

// fixture is what check.py knows of the database.
type fixture struct {
	AdminToken       string         `json:"admin_token"`
	UserToken        string         `json:"user_token"`
	OutsiderToken    string         `json:"outsider_token"`
	Project          string         `json:"project"`
	ProjectID        string         `json:"project_id"`
	InstanceStatuses []string       `json:"instance_statuses"`
	RunStatuses      []string       `json:"run_statuses"`
	Submissions      []submission   `json:"submissions"`
	Fleet            map[string]any `json:"fleet_configuration"`
	Task             map[string]any `json:"task_configuration"`
}

type submission struct {
	ID      string `json:"id"`
	RunName string `json:"run_name"`
	Status  string `json:"status"`
}

func itoa(n int) string { return strconv.Itoa(n) }

func ref[T any](v T) *T { return &v }

// world collects rows and writes them at once.
type world struct {
	t       *testing.T
	now     time.Time
	project store.Project
	admin   store.User
	fleet   store.Fleet
	fixture fixture
}

// seed fills a new database in dir with rows in every state.
func seed(t *testing.T, dir string) fixture {
	t.Helper()
	ctx := context.Background()
	sealer, err := store.LoadSealer(store.KeySource{Dir: dir, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(ctx, store.Options{Path: filepath.Join(dir, "data", "sqlite.db"), Sealer: sealer})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	w := &world{t: t, now: time.Now().UTC().Truncate(time.Microsecond)}
	seeded, err := auth.Seed(ctx, s, "admin-token", w.now, auth.MainProject)
	if err != nil {
		t.Fatal(err)
	}
	w.admin = seeded.Admin
	member, err := auth.NewUser("member", auth.RoleUser, "member-token", w.now)
	if err != nil {
		t.Fatal(err)
	}
	outsider, err := auth.NewUser("outsider", auth.RoleUser, "outsider-token", w.now.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	err = s.Write(ctx, func(tx *store.Tx) error {
		var err error
		if w.project, err = tx.ProjectByName(auth.MainProject); err != nil {
			return err
		}
		for _, u := range []*store.User{&member, &outsider} {
			if err := tx.InsertUser(u); err != nil {
				return err
			}
		}
		err = tx.SetMembers(w.project.ID, []store.Member{{UserID: w.admin.ID, Role: auth.RoleAdmin}, {UserID: member.ID, Role: auth.RoleUser}})
		if err != nil {
			return err
		}
		return w.insert(tx)
	})
	if err != nil {
		t.Fatal(err)
	}
	w.writeLogs(ctx, dir)
	w.fixture.AdminToken, w.fixture.UserToken, w.fixture.OutsiderToken = "admin-token", "member-token", "outsider-token"
	w.fixture.Project, w.fixture.ProjectID = w.project.Name, w.project.ID
	w.configurations()
	return w.fixture
}

func (w *world) insert(tx *store.Tx) error {
	w.fleet = store.Fleet{
		ID: uuid.NewString(), ProjectID: w.project.ID, Name: "lab", Status: api.FleetActive,
		CreatedAt: w.now, LastProcessedAt: w.now,
		Spec: api.FleetSpec{
			ConfigurationPath: ref("fleet.dstack.yml"),
			Configuration: config.Fleet{
				Type: config.TypeFleet, Name: ref("lab"), Blocks: config.Blocks{Count: 1}, Env: config.Env{"A": {Value: "b"}},
				Placement: ref("cluster"),
				SSHConfig: &config.SSHParams{
					User: ref("ubuntu"), SSHKey: &config.SSHKey{Public: "ssh-ed25519 A", Private: ref("-----BEGIN PRIVATE KEY-----")},
					Hosts: []config.SSHHost{
						{Hostname: "10.0.0.1", Plain: true},
						{Hostname: "10.0.0.2", Port: ref(2222), Blocks: config.Blocks{Auto: true}},
					},
				},
			},
			Profile: config.Profile{Name: "default"},
		},
	}
	if err := tx.InsertFleet(&w.fleet); err != nil {
		return err
	}
	gone := w.fleet
	gone.ID, gone.Name, gone.Status, gone.Deleted = uuid.NewString(), "gone", api.FleetTerminated, true
	if err := tx.InsertFleet(&gone); err != nil {
		return err
	}
	instances, err := w.instances(tx)
	if err != nil {
		return err
	}
	return w.runs(tx, instances)
}

func (w *world) instances(tx *store.Tx) ([]store.Instance, error) {
	var out []store.Instance
	for i, st := range []api.InstanceStatus{
		api.InstancePending, api.InstanceProvisioning, api.InstanceIdle, api.InstanceBusy, api.InstanceTerminating, api.InstanceTerminated,
	} {
		in := store.Instance{
			ID: uuid.NewString(), ProjectID: w.project.ID, FleetID: w.fleet.ID, Name: fmt.Sprintf("lab-%d", i), Num: i,
			Backend: "remote", Status: st, CreatedAt: w.now.Add(time.Duration(i) * time.Second), LastProcessedAt: w.now,
			Hostname: fmt.Sprintf("10.0.0.%d", i+1), Region: "remote", Access: store.Access{Host: fmt.Sprintf("10.0.0.%d", i+1), User: "ubuntu"},
		}
		switch st {
		case api.InstanceIdle, api.InstanceBusy:
			in.TotalBlocks, in.StartedAt = 1, &w.now
			in.Type = &api.InstanceType{Name: "instance", Resources: api.Resources{
				CPUs: 8, MemoryMiB: 32768, Disk: api.Disk{SizeMiB: 512000}, CPUArch: ref("x86"),
				GPUs: []api.GPU{{Name: "H100", MemoryMiB: 81920, Vendor: ref("nvidia")}},
			}}
			in.GPUDriver = &api.GPUDriverInfo{Vendor: ref("nvidia"), Version: "570.124.06"}
			in.Info = &hostapi.Info{Runtime: hostapi.Docker}
		case api.InstanceTerminating, api.InstanceTerminated:
			in.Reason, in.ReasonMessage, in.FinishedAt = ref(api.ReasonInstanceUnreachableTooLong), ref("no route to host"), &w.now
			in.Unreachable = true
		}
		if err := tx.InsertInstance(&in); err != nil {
			return nil, err
		}
		w.fixture.InstanceStatuses = append(w.fixture.InstanceStatuses, string(st))
		out = append(out, in)
	}
	return out, nil
}

// ends are jobs in every state that a run may show.
func ends() []struct {
	run    api.RunStatus
	reason *api.RunReason
	job    api.JobStatus
	why    *api.JobReason
	exit   *int
} {
	type row = struct {
		run    api.RunStatus
		reason *api.RunReason
		job    api.JobStatus
		why    *api.JobReason
		exit   *int
	}
	return []row{
		{run: api.RunPending, job: api.JobFailed, why: ref(api.ReasonNoCapacity)},
		{run: api.RunSubmitted, job: api.JobSubmitted},
		{run: api.RunProvisioning, job: api.JobProvisioning},
		{run: api.RunProvisioning, job: api.JobPulling},
		{run: api.RunRunning, job: api.JobRunning},
		{run: api.RunTerminating, reason: ref(api.ReasonStoppedByUser), job: api.JobTerminating, why: ref(api.ReasonTerminatedByUser)},
		{run: api.RunTerminated, reason: ref(api.ReasonStoppedByUser), job: api.JobTerminated, why: ref(api.ReasonTerminatedByUser)},
		{run: api.RunTerminated, reason: ref(api.ReasonAbortedByUser), job: api.JobAborted, why: ref(api.ReasonJobAbortedByUser)},
		{run: api.RunFailed, reason: ref(api.ReasonJobFailed), job: api.JobFailed, why: ref(api.ReasonContainerError), exit: ref(3)},
		{run: api.RunFailed, reason: ref(api.ReasonRetryLimitExceeded), job: api.JobFailed, why: ref(api.ReasonExecutorError)},
		{run: api.RunFailed, reason: ref(api.ReasonServerError), job: api.JobFailed, why: ref(api.ReasonCreatingContainer)},
		{run: api.RunDone, reason: ref(api.ReasonAllJobsDone), job: api.JobDone, why: ref(api.ReasonDoneByRunner), exit: ref(0)},
	}
}

func (w *world) runs(tx *store.Tx, instances []store.Instance) error {
	for i, e := range ends() {
		name := fmt.Sprintf("run-%d", i)
		spec := w.runSpec(i, name)
		r := store.Run{
			ID: uuid.NewString(), ProjectID: w.project.ID, UserID: w.admin.ID, FleetID: &w.fleet.ID, Name: name,
			SubmittedAt: w.now.Add(time.Duration(i) * time.Millisecond), LastProcessedAt: w.now, Status: e.run, Reason: e.reason, Spec: spec,
			Deleted: i%5 == 4 && e.run.Finished(),
		}
		if e.run == api.RunPending {
			r.NextTriggerAt = ref(w.now.Add(time.Hour))
		}
		if spec.Configuration.Service != nil {
			r.Service = &api.Service{
				URL: "/proxy/services/main/" + name + "/", Model: &api.ServiceModel{Name: "org/m", BaseURL: "/proxy/services/main/" + name + "/v1", Type: "chat"},
				Options: api.ServiceOptions{OpenAI: &api.OpenAIOptions{Model: *spec.Configuration.Service.Model}},
			}
		}
		if err := tx.InsertRun(&r); err != nil {
			return err
		}
		jobs, err := jobspec.Build(spec, nil, jobspec.Options{})
		if err != nil {
			return err
		}
		j := store.Job{
			ID: uuid.NewString(), RunID: r.ID, ProjectID: r.ProjectID, RunName: name, SubmittedAt: w.now, LastProcessedAt: w.now,
			Status: e.job, Reason: e.why, ExitStatus: e.exit, Spec: jobs[0],
		}
		if e.job.Finished() {
			j.FinishedAt, j.ReasonMessage = ref(w.now.Add(90*time.Second)), ref("a message")
		}
		if e.job != api.JobSubmitted {
			in := instances[3]
			offer := api.Offer{
				Backend: "remote", Instance: *in.Type, Region: "remote", BackendData: map[string]any{}, Availability: "busy",
				InstanceRuntime: "shim", Blocks: 1, TotalBlocks: 1,
			}
			j.UsedInstanceID, j.Provisioning, j.Runtime = &in.ID, jobspec.Provisioning(in, offer), jobspec.Share(in, offer, 1, jobspec.Options{})
			j.Runtime.Ports = map[string]int{"10022": 32768}
			if e.job == api.JobRunning {
				j.InstanceID, j.RunningAt = &in.ID, &w.now
			}
		}
		if err := tx.InsertJob(&j); err != nil {
			return err
		}
		for n := range 2 {
			if err := tx.InsertMetrics(store.MetricsPoint{
				JobID: j.ID, At: w.now.Add(time.Duration(n) * 10 * time.Second), CPUMicro: int64(n) * 5_000_000, MemoryBytes: 300, WorkingSetBytes: 200,
				GPUs: []jobapi.GPUUsage{{MemoryBytes: 7, UtilPercent: 99}},
			}); err != nil {
				return err
			}
		}
		w.fixture.RunStatuses = append(w.fixture.RunStatuses, string(e.run))
		w.fixture.Submissions = append(w.fixture.Submissions, submission{j.ID, name, string(j.Status)})
		if err := tx.InsertEvents(store.Event{
			ID: uuid.NewString(), Message: "Run submitted. Status: SUBMITTED", RecordedAt: w.now, ActorID: &w.admin.ID,
			Targets: []store.EventTarget{{Type: "run", ProjectID: &w.project.ID, ID: r.ID, Name: name}},
		}, store.Event{
			ID: uuid.NewString(), Message: "Job created on run submission. Status: SUBMITTED", RecordedAt: w.now.Add(time.Microsecond),
			Targets: []store.EventTarget{{Type: "job", ProjectID: &w.project.ID, ID: j.ID, Name: j.Spec.JobName, RunID: &r.ID}},
		}); err != nil {
			return err
		}
	}
	return nil
}

// runSpec is that of a task, a development environment or a service, in turn.
func (w *world) runSpec(i int, name string) api.RunSpec {
	own := []string{
		`"type":"task","commands":["echo hello","exit 3"],"ports":["8000:80"]`,
		`"type":"dev-environment","ide":"vscode","version":"1.99.0","init":["echo hi"],"inactivity_duration":"1h","ports":["8000:80"]`,
		`"type":"service","port":80,"model":"org/m","groups":[{"replicas":1,"commands":["serve"],"router":{"type":"smg"}},
			{"name":"d","replicas":2,"commands":["work"]}],"probes":[{"type":"http"}],"gateway":"gw"`,
	}[i%3]
	data := fmt.Sprintf(`{"run_name":%q,"repo_id":"none","repo_data":{"repo_type":"virtual"},"configuration_path":".dstack.yml",
		"configuration":{%s,"name":%q,"image":"ubuntu","env":{"A":"1"},
			"volumes":["/data:/data"],"max_duration":"2h","retry":{"on_events":["error"],"duration":"1h"},
			"resources":{"cpu":"2..","memory":"8GB..","gpu":"H100:1","disk":"10GB.."},"fleets":["lab"],"tags":{"a":"b"},
			"registry_auth":{"username":"u","password":"p"},"schedule":{"cron":"0 8 * * *"},"user":"1000:1000"},
		"profile":{"name":"default"},"ssh_key_pub":"ssh-rsa AAAA"}`, name, own, name)
	req, err := api.DecodeRequest[api.GetRunPlanRequest]([]byte(`{"run_spec":` + data + `}`))
	if err != nil {
		w.t.Fatal(err)
	}
	return req.RunSpec
}

func (w *world) writeLogs(ctx context.Context, dir string) {
	l := logs.New(logs.Options{Dir: dir})
	for _, s := range w.fixture.Submissions {
		key := logs.Key{Project: w.project.Name, Run: s.RunName, JobID: s.ID}
		if _, err := l.Append(ctx, key, 0, w.now, []byte("hello\nw\xc3\xb6rld \xff\n")); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// configurations are what check.py applies.
func (w *world) configurations() {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		w.t.Fatal(err)
	}
	w.fixture.Fleet = map[string]any{
		"type": "fleet", "name": "wire-fleet",
		"ssh_config": map[string]any{
			"user": "ubuntu", "ssh_key": map[string]any{"public": "ssh-ed25519 AAAA", "private": string(pem.EncodeToMemory(block))},
			"hosts": []any{"10.1.0.1", map[string]any{"hostname": "10.1.0.2", "port": 2222, "blocks": "auto"}},
		},
	}
	w.fixture.Task = map[string]any{
		"type": "task", "image": "ubuntu", "commands": []any{"echo hello"}, "resources": map[string]any{"disk": "10GB.."},
		"env": []any{"A=1"}, "max_duration": "1h",
	}
}
