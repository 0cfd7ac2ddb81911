package render

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/cli/term"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) api.Time { return api.At(now.Add(-d)) }

func age(t time.Time) string { return Age(t, now) }

func plain(t term.Table) string {
	c := &term.Console{}
	return "\n" + c.Render(t)
}

func lines(text ...string) string { return "\n" + strings.Join(text, "\n") + "\n" }

func aws(gpus int, price float64) *api.JobProvisioningData {
	r := api.Resources{CPUs: 192, MemoryMiB: 1 << 20, Disk: api.Disk{SizeMiB: 102400}, CPUArch: ptr("x86")}
	for range gpus {
		r.GPUs = append(r.GPUs, api.GPU{Name: "H100", MemoryMiB: 81920})
	}
	return &api.JobProvisioningData{Backend: "aws", Region: "us-east-1", Price: price, Dockerized: true, InstanceType: api.InstanceType{Name: "p5.48xlarge", Resources: r}}
}

func run(name string, status api.RunStatus, age time.Duration, jobs ...api.Job) api.Run {
	return api.Run{
		Status: status, StatusMessage: string(status), SubmittedAt: ago(age),
		RunSpec: api.RunSpec{RunName: &name}, Jobs: jobs,
	}
}

func job(num, perReplica int, sub api.JobSubmission) api.Job {
	return api.Job{
		JobSpec:        api.JobSpec{JobNum: num, JobsPerReplica: perReplica},
		JobSubmissions: []api.JobSubmission{sub},
	}
}

func TestRunsTable(t *testing.T) {
	t.Parallel()
	local := aws(0, 0)
	local.Backend, local.Region, local.Dockerized, local.InstanceType.Name = "remote", "remote", false, "instance"
	runs := []api.Run{
		run("train-a", api.RunRunning, time.Hour,
			job(0, 2, api.JobSubmission{Status: api.JobRunning, StatusMessage: "running", SubmittedAt: ago(time.Hour), JobProvisioningData: aws(8, 98.32)}),
			job(1, 2, api.JobSubmission{Status: api.JobRunning, StatusMessage: "running", SubmittedAt: ago(time.Hour), JobProvisioningData: aws(8, 98.32)})),
		run("pulling", api.RunProvisioning, 20*time.Second, job(0, 1, api.JobSubmission{
			Status: api.JobPulling, StatusMessage: "pulling", JobProvisioningData: local,
			ImagePullProgress: &api.ImagePullProgress{ExtractedBytes: 1 << 30, DownloadedBytes: 3 << 30, TotalBytes: 9 << 30},
		})),
		run("sub", api.RunSubmitted, 0, job(0, 1, api.JobSubmission{Status: api.JobSubmitted, StatusMessage: "submitted"})),
		run("failedexit", api.RunFailed, 8*day, job(0, 1, api.JobSubmission{
			Status: api.JobFailed, StatusMessage: "exited (137)", JobProvisioningData: aws(8, 98.32),
			TerminationReasonMessage: ptr("Container exited\nwith exit code 137"),
		})),
		{Status: api.RunPending, StatusMessage: "retrying", SubmittedAt: ago(time.Minute), RunSpec: api.RunSpec{RunName: ptr("retryer")}, Jobs: []api.Job{
			job(0, 1, api.JobSubmission{Status: api.JobFailed, StatusMessage: "no capacity"}),
		}},
		run("cron", api.RunPending, time.Minute),
	}
	want := lines(
		" NAME        BACKEND          GPU              PRICE   STATUS                     SUBMITTED",
		" train-a                      -                -       running                    1 hour ago",
		"    job=0    aws (us-east-1)  gpu=H100:80GB:8  $98.32  running                    1 hour ago",
		"    job=1    aws (us-east-1)  gpu=H100:80GB:8  $98.32  running                    1 hour ago",
		" pulling     ssh (remote)     -                $0      pulling 1.00/3.00/≥9.00GB  20 sec ago",
		" sub                          -                -       submitted                  now",
		" failedexit  aws (us-east-1)  gpu=H100:80GB:8  $98.32  exited (137)               1 week ago",
		" retryer                      -                -       retrying                   1 min ago",
		" cron                         -                -       pending                    1 min ago",
	)
	if diff := cmp.Diff(want, plain(RunsTable(runs, false, age))); diff != "" {
		t.Errorf("ps (-want +got):\n%s", diff)
	}
	want = lines(
		" NAME        BACKEND          RESOURCES                                          INSTANCE TYPE                     PRICE   STATUS                     PROBES  SUBMITTED   ERROR",
		" pulling     ssh (remote)     cpu=x86:192 mem=1024GB disk=100GB                  instance (process, no isolation)  $0      pulling 1.00/3.00/≥9.00GB          20 sec ago",
		" failedexit  aws (us-east-1)  cpu=x86:192 mem=1024GB disk=100GB gpu=H100:80GB:8  p5.48xlarge                       $98.32  exited (137)                       1 week ago  Container exited with exit code 137",
	)
	if diff := cmp.Diff(want, plain(RunsTable([]api.Run{runs[1], runs[3]}, true, age))); diff != "" {
		t.Errorf("ps -v (-want +got):\n%s", diff)
	}
}

func TestFleetsTable(t *testing.T) {
	t.Parallel()
	resources := api.Resources{CPUs: 4, MemoryMiB: 16384, Disk: api.Disk{SizeMiB: 102400}, CPUArch: ptr("x86")}
	host := func(num int, status api.InstanceStatus) api.Instance {
		return api.Instance{
			InstanceNum: num, Status: status, Created: ago(30 * time.Second), Backend: ptr("remote"), Region: ptr("remote"), Price: ptr(0.0),
			InstanceType: &api.InstanceType{Name: "instance", Resources: resources}, Hostname: ptr("10.0.0.5"), TotalBlocks: ptr(1), HealthStatus: "healthy",
		}
	}
	unreachable := host(1, api.InstanceIdle)
	unreachable.Unreachable = true
	shared := host(2, api.InstanceBusy)
	shared.TotalBlocks, shared.BusyBlocks = ptr(4), 2
	shared.Warning = ptr("Jobs end when the Docker Engine is restarted")
	failed := host(3, api.InstanceTerminated)
	failed.InstanceType, failed.TerminationReason = nil, ptr("error")
	failed.TerminationReasonMessage = ptr("user ubuntu may not use sudo. Allow it: echo 'ubuntu ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/ubuntu")
	fleets := []api.Fleet{
		{Name: "cloud", ProjectName: "other", Status: api.FleetActive, CreatedAt: ago(2 * time.Hour), Spec: api.FleetSpec{Configuration: config.Fleet{
			Nodes: &config.FleetNodes{Min: 0, Max: ptr(4)}, Placement: ptr("cluster"), Backends: []string{"aws", "gcp"}, MaxPrice: ptr(100.0),
			Resources: &config.Resources{GPU: &config.GPU{Name: []string{"H100"}, Count: config.Range[int]{Min: ptr(8), Max: ptr(8)}}},
		}}},
		{Name: "lab", ProjectName: "main", Status: api.FleetActive, CreatedAt: ago(time.Hour), Spec: api.FleetSpec{Configuration: config.Fleet{
			SSHConfig: &config.SSHParams{Hosts: make([]config.SSHHost, 4)},
		}}, Instances: []api.Instance{host(0, api.InstanceIdle), unreachable, shared, failed}},
	}
	want := lines(
		" NAME           NODES  GPU     SPOT       BACKEND       PRICE    STATUS              CREATED",
		" lab            4                         ssh                    active              1 hour ago",
		"    instance=0         -                  ssh (remote)           idle                30 sec ago",
		"    instance=1         -                  ssh (remote)           idle (unreachable)  30 sec ago",
		"    instance=2         -                  ssh (remote)           2/4 busy            30 sec ago",
		"    instance=3                            ssh (remote)           terminated          30 sec ago",
		"    10.0.0.5: user ubuntu may not use sudo. Allow it: echo 'ubuntu ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/ubuntu",
		" other/cloud    0..4   H100:8  on-demand  aws, gcp      $0..100  active              2 hours ago",
	)
	if diff := cmp.Diff(want, plain(FleetsTable(fleets, "main", false, age))); diff != "" {
		t.Errorf("fleet (-want +got):\n%s", diff)
	}
	verbose := plain(FleetsTable(fleets, "main", true, age))
	for _, part := range []string{"0..4 (cluster)", "cpu=x86:4 mem=16GB disk=100GB", "error", "may not use sudo", "10.0.0.5: Jobs end when the Docker Engine is restarted"} {
		if !strings.Contains(verbose, part) {
			t.Errorf("fleet -v lacks %q:\n%s", part, verbose)
		}
	}
}

func TestRunPlan(t *testing.T) {
	t.Parallel()
	task := &config.Task{Nodes: ptr(2)}
	task.IdleDuration = ptr(-1)
	plan := api.RunPlan{
		ProjectName: "main", User: "admin",
		RunSpec: api.RunSpec{Configuration: config.Run{Task: task}},
		JobPlans: []api.JobPlan{{JobSpec: api.JobSpec{
			MaxDuration: ptr(7200), Retry: &api.Retry{OnEvents: []string{"no-capacity", "error"}, Duration: 3600},
			Requirements: api.Requirements{Resources: config.DefaultResources(), MaxPrice: ptr(2.5), Spot: ptr(true)},
		}}},
	}
	want := lines(
		" Project        main",
		" User           admin",
		" Type           task (nodes=2)",
		" Resources      cpu=2.. mem=8GB.. disk=100GB.. gpu=0..",
		" Spot policy    spot",
		" Max price      $2.5",
		" Retry policy   1h[no-capacity, error]",
		" Idle duration  -",
		" Max duration   2h",
	)
	if diff := cmp.Diff(want, plain(RunPlan(plan, false))); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

func TestOffersTable(t *testing.T) {
	t.Parallel()
	offer := api.Offer{
		Backend: "remote", Region: "remote", Availability: "idle", Blocks: 4, TotalBlocks: 8,
		Instance: api.InstanceType{Name: "instance", Resources: aws(4, 0).InstanceType.Resources},
	}
	far := offer
	far.Backend, far.Region, far.Price, far.Availability, far.TotalBlocks = "aws", "us-east-1", 98.32, "no_quota", 1
	want := lines(
		" #  BACKEND          RESOURCES                                          INSTANCE TYPE   PRICE",
		" 1  ssh (remote)     cpu=x86:192 mem=1024GB disk=100GB gpu=H100:80GB:4  instance (4/8)  $0      idle",
		" 2  aws (us-east-1)  cpu=x86:192 mem=1024GB disk=100GB gpu=H100:80GB:4  instance        $98.32  no quota",
		"    ...",
	)
	if diff := cmp.Diff(want, plain(OffersTable([]api.Offer{offer, far}, 124))); diff != "" {
		t.Errorf("offers (-want +got):\n%s", diff)
	}
	if got, want := OffersFooter(2, 124, ptr(98.32)), " Shown 2 of 124 offers, $98.32 max"; got != want {
		t.Errorf("footer %q, want %q", got, want)
	}
	if got := OffersFooter(2, 2, nil); got != "" {
		t.Errorf("footer %q of all offers", got)
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	before := &config.Task{Commands: []string{"a"}, Nodes: ptr(1)}
	after := &config.Task{Commands: []string{"b"}, Nodes: ptr(2)}
	before.Env, after.Env = config.Env{"TOKEN": {Value: "old-secret"}}, config.Env{"TOKEN": {Value: "new-secret"}}
	got := RunChanges(
		api.RunSpec{Configuration: config.Run{Task: before}, ConfigurationPath: ptr("a.yml")},
		api.RunSpec{Configuration: config.Run{Task: after}, ConfigurationPath: ptr("b.yml"), SSHKeyPub: ptr("key")})
	want := []string{"- Configuration properties:", "  - commands", "  - env", "  - nodes: 1 → 2", "- Public SSH key"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if got := RunChanges(api.RunSpec{}, api.RunSpec{}); got != nil {
		t.Errorf("no difference: %q", got)
	}
}

func TestEvent(t *testing.T) {
	t.Parallel()
	at := api.At(time.Date(2026, 11, 23, 15, 56, 58, 0, time.Local))
	event := api.Event{RecordedAt: at, Message: "Job created\non run", ActorUser: ptr("admin"), Targets: []api.EventTarget{
		{Type: "run", Name: "hello", ProjectName: ptr("main")}, {Type: "job", Name: "x-0-0", ProjectName: ptr("other")},
	}}
	want := "[2026-11-23 15:56:58] [👤admin] [run hello, job other/x-0-0] Job created on run"
	if got := Event(event, "main", &term.Console{}); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestVolumesTable shows what volumes cost to who asks for more, if they do.
func TestVolumesTable(t *testing.T) {
	t.Parallel()
	v := api.Volume{
		Name: "data", Status: api.VolumeActive, Cost: 1.234, CreatedAt: ago(time.Hour),
		Configuration:    config.Volume{Backend: "aws", Region: "us-east-1"},
		ProvisioningData: &api.VolumeProvisioningData{Price: ptr(8.0)},
		Attachments:      []api.VolumeAttachment{{Instance: api.VolumeInstance{Name: "pool-0", FleetName: ptr("pool")}}},
	}
	failed := api.Volume{Name: "other", Status: api.VolumeFailed, StatusMessage: ptr("no quota"), CreatedAt: ago(time.Hour), Configuration: v.Configuration}
	for _, c := range []struct {
		volumes []api.Volume
		verbose bool
		want    string
	}{
		{[]api.Volume{v}, false, lines(
			" NAME  BACKEND          STATUS  CREATED",
			" data  aws (us-east-1)  active  1 hour ago",
		)},
		{[]api.Volume{failed}, true, lines(
			" NAME   BACKEND  REGION     STATUS  ATTACHED  CREATED     ERROR",
			" other  aws      us-east-1  failed  -         1 hour ago  no quota",
		)},
		{[]api.Volume{v, failed}, true, lines(
			" NAME   BACKEND  REGION     STATUS  ATTACHED  CREATED     COST              ERROR",
			" data   aws      us-east-1  active  pool      1 hour ago  $1.23 ($8/month)",
			" other  aws      us-east-1  failed  -         1 hour ago  -                 no quota",
		)},
	} {
		if diff := cmp.Diff(c.want, plain(VolumesTable(c.volumes, c.verbose, age))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
