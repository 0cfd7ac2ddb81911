package prometheus

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/jobapi"
)

func at(sec int) time.Time { return time.Date(2026, 11, 25, 12, 0, sec, 0, time.UTC) }

// filled is a store with an instance, some runs, and a job that is measured.
func filled(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), store.Options{Memory: true, Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	h100 := api.GPU{Name: "H100", MemoryMiB: 81920}
	typ := api.InstanceType{Name: "big", Resources: api.Resources{CPUs: 8, MemoryMiB: 2000, GPUs: []api.GPU{h100, h100}}}
	half := api.InstanceType{Name: "big", Resources: api.Resources{CPUs: 4, MemoryMiB: 1000, GPUs: []api.GPU{h100}}}
	err = st.Write(t.Context(), func(tx *store.Tx) error {
		u := store.User{ID: "u1", Name: "admin", CreatedAt: at(0)}
		p := store.Project{ID: "p1", Name: `ma"in\`, OwnerID: "u1", CreatedAt: at(0)}
		f := store.Fleet{ID: "f1", ProjectID: "p1", Name: "lab", CreatedAt: at(0), LastProcessedAt: at(0), Status: api.FleetActive}
		errs := []error{tx.InsertUser(&u), tx.InsertProject(&p), tx.InsertFleet(&f)}
		for n, i := range []store.Instance{
			{ID: "i1", Name: "lab-0", Status: api.InstanceBusy, Type: &typ, Price: 2.5, CreatedAt: at(10)},
			{ID: "i2", Name: "lab-1", Status: api.InstancePending, CreatedAt: at(10)},
			{ID: "i3", Name: "lab-2", Status: api.InstanceProvisioning, CreatedAt: at(20)},
			{ID: "i4", Name: "lab-3", Status: api.InstanceIdle, CreatedAt: at(20), Deleted: true},
		} {
			i.ProjectID, i.FleetID, i.Num, i.Backend, i.LastProcessedAt = "p1", "f1", n, "remote", at(0)
			errs = append(errs, tx.InsertInstance(&i))
		}
		for n, status := range []api.RunStatus{api.RunRunning, api.RunDone, api.RunDone, api.RunFailed, api.RunTerminated} {
			r := store.Run{
				ID: "r" + string(rune('1'+n)), ProjectID: "p1", UserID: "u1", Name: "train", SubmittedAt: at(0), LastProcessedAt: at(0),
				Status: status, Deleted: status != api.RunRunning, Spec: api.RunSpec{Configuration: config.Run{Task: &config.Task{Type: "task"}}},
			}
			errs = append(errs, tx.InsertRun(&r))
		}
		for n, status := range []api.JobStatus{api.JobRunning, api.JobSubmitted, api.JobDone} {
			j := store.Job{
				ID: "j" + string(rune('1'+n)), RunID: "r1", ProjectID: "p1", RunName: "train", SubmissionNum: n, JobNum: 0, SubmittedAt: at(30),
				LastProcessedAt: at(0), Status: status, Spec: api.JobSpec{JobName: "train-0-0"},
			}
			if status == api.JobRunning {
				j.Provisioning = &api.JobProvisioningData{Backend: "remote", InstanceType: typ, Price: 2.5}
				j.Runtime = &api.JobRuntimeData{Offer: &api.Offer{Instance: half, Price: 1.25}}
			}
			errs = append(errs, tx.InsertJob(&j))
			if !status.Finished() {
				errs = append(errs, tx.Wake(at(0), store.Key{Kind: store.KindJob, ID: j.ID}))
			}
		}
		errs = append(errs, tx.InsertMetrics(
			store.MetricsPoint{JobID: "j1", At: at(40), CPUMicro: 1},
			store.MetricsPoint{JobID: "j1", At: at(50), CPUMicro: 20_000_000, MemoryBytes: 104, WorkingSetBytes: 94, GPUs: []jobapi.GPUUsage{{MemoryBytes: 11, UtilPercent: 50}}},
		))
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// want has the names, types, texts and labels that a server of 0.22.5 gave.
const want = `# HELP dstack_instance_duration_seconds_total Total seconds the instance is running
# TYPE dstack_instance_duration_seconds_total counter
dstack_instance_duration_seconds_total{dstack_project_name="ma\"in\\",dstack_fleet_name="lab",dstack_fleet_id="f1",dstack_instance_name="lab-0",dstack_instance_id="i1",dstack_instance_type="big",dstack_backend="remote",dstack_gpu="H100"} 50.0
dstack_instance_duration_seconds_total{dstack_project_name="ma\"in\\",dstack_fleet_name="lab",dstack_fleet_id="f1",dstack_instance_name="lab-2",dstack_instance_id="i3",dstack_instance_type="",dstack_backend="remote",dstack_gpu=""} 40.0
# HELP dstack_instance_price_dollars_per_hour Instance price, USD/hour
# TYPE dstack_instance_price_dollars_per_hour gauge
dstack_instance_price_dollars_per_hour{dstack_project_name="ma\"in\\",dstack_fleet_name="lab",dstack_fleet_id="f1",dstack_instance_name="lab-0",dstack_instance_id="i1",dstack_instance_type="big",dstack_backend="remote",dstack_gpu="H100"} 2.5
dstack_instance_price_dollars_per_hour{dstack_project_name="ma\"in\\",dstack_fleet_name="lab",dstack_fleet_id="f1",dstack_instance_name="lab-2",dstack_instance_id="i3",dstack_instance_type="",dstack_backend="remote",dstack_gpu=""} 0.0
# HELP dstack_instance_gpu_count Instance GPU count
# TYPE dstack_instance_gpu_count gauge
dstack_instance_gpu_count{dstack_project_name="ma\"in\\",dstack_fleet_name="lab",dstack_fleet_id="f1",dstack_instance_name="lab-0",dstack_instance_id="i1",dstack_instance_type="big",dstack_backend="remote",dstack_gpu="H100"} 2.0
dstack_instance_gpu_count{dstack_project_name="ma\"in\\",dstack_fleet_name="lab",dstack_fleet_id="f1",dstack_instance_name="lab-2",dstack_instance_id="i3",dstack_instance_type="",dstack_backend="remote",dstack_gpu=""} 0.0
# HELP dstack_run_count_total Total runs count
# TYPE dstack_run_count_total counter
dstack_run_count_total{dstack_project_name="ma\"in\\",dstack_user_name="admin"} 5.0
# HELP dstack_run_count_terminated_total Terminated runs count
# TYPE dstack_run_count_terminated_total counter
dstack_run_count_terminated_total{dstack_project_name="ma\"in\\",dstack_user_name="admin"} 1.0
# HELP dstack_run_count_failed_total Failed runs count
# TYPE dstack_run_count_failed_total counter
dstack_run_count_failed_total{dstack_project_name="ma\"in\\",dstack_user_name="admin"} 1.0
# HELP dstack_run_count_done_total Done runs count
# TYPE dstack_run_count_done_total counter
dstack_run_count_done_total{dstack_project_name="ma\"in\\",dstack_user_name="admin"} 2.0
# HELP dstack_job_duration_seconds_total Total seconds the job is running
# TYPE dstack_job_duration_seconds_total counter
dstack_job_duration_seconds_total{JOB} 30.0
# HELP dstack_job_price_dollars_per_hour Job instance price, USD/hour
# TYPE dstack_job_price_dollars_per_hour gauge
dstack_job_price_dollars_per_hour{JOB} 1.25
# HELP dstack_job_gpu_count Job GPU count
# TYPE dstack_job_gpu_count gauge
dstack_job_gpu_count{JOB} 1.0
# HELP dstack_job_cpu_count Job CPU count
# TYPE dstack_job_cpu_count gauge
dstack_job_cpu_count{JOB} 4.0
# HELP dstack_job_cpu_time_seconds_total Total CPU time consumed by the job, seconds
# TYPE dstack_job_cpu_time_seconds_total counter
dstack_job_cpu_time_seconds_total{JOB} 20.0
# HELP dstack_job_memory_total_bytes Total memory allocated for the job, bytes
# TYPE dstack_job_memory_total_bytes gauge
dstack_job_memory_total_bytes{JOB} 1048576000.0
# HELP dstack_job_memory_usage_bytes Memory used by the job (including cache), bytes
# TYPE dstack_job_memory_usage_bytes gauge
dstack_job_memory_usage_bytes{JOB} 104.0
# HELP dstack_job_memory_working_set_bytes Memory used by the job (not including cache), bytes
# TYPE dstack_job_memory_working_set_bytes gauge
dstack_job_memory_working_set_bytes{JOB} 94.0
# HELP dstack_job_gpu_usage_ratio Job GPU usage, percent (as 0.0-1.0)
# TYPE dstack_job_gpu_usage_ratio gauge
dstack_job_gpu_usage_ratio{JOB,dstack_gpu_num="0"} 0.5
# HELP dstack_job_gpu_memory_total_bytes Total GPU memory allocated for the job, bytes
# TYPE dstack_job_gpu_memory_total_bytes gauge
dstack_job_gpu_memory_total_bytes{JOB,dstack_gpu_num="0"} 85899345920.0
# HELP dstack_job_gpu_memory_usage_bytes GPU memory used by the job, bytes
# TYPE dstack_job_gpu_memory_usage_bytes gauge
dstack_job_gpu_memory_usage_bytes{JOB,dstack_gpu_num="0"} 11.0
# HELP dstack_submit_to_provision_duration_seconds Time from when a run has been submitted and first job provisioning
# TYPE dstack_submit_to_provision_duration_seconds histogram
# HELP dstack_pending_runs_total Number of pending runs
# TYPE dstack_pending_runs_total counter
# HELP dstack_server_engine_queue_length Resources that wait to be looked at
# TYPE dstack_server_engine_queue_length gauge
dstack_server_engine_queue_length 3.0
# HELP dstack_server_hosts_connected Hosts that are connected
# TYPE dstack_server_hosts_connected gauge
dstack_server_hosts_connected 2.0
`

const jobLabels = `dstack_project_name="ma\"in\\",dstack_user_name="admin",dstack_run_name="train",dstack_run_id="r1",dstack_job_name="train-0-0",dstack_job_id="j1",dstack_job_num="0",dstack_replica_num="0",dstack_run_type="task",dstack_backend="remote",dstack_gpu="H100"`

func exporter(t *testing.T) *Exporter {
	t.Helper()
	return New(filled(t), func() time.Time { return at(60) }, Gauges{Queue: func() int { return 3 }, Hosts: func() int { return 2 }})
}

func TestScrape(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	if err := exporter(t).Write(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.ReplaceAll(want, "JOB", jobLabels), got.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	e := exporter(t)
	e.RunMoved("p1", "task", api.RunSubmitted, api.RunProvisioning, 15*time.Second)
	e.RunMoved("p1", "task", api.RunSubmitted, api.RunRunning, 16*time.Second)
	e.RunMoved("p1", "task", api.RunSubmitted, api.RunProvisioning, time.Hour)
	e.RunMoved("p1", "task", api.RunProvisioning, api.RunRunning, time.Hour)
	e.RunMoved("p1", "service", api.RunRunning, api.RunPending, time.Hour)
	e.RunMoved("p1", "service", api.RunRunning, api.RunPending, time.Hour)
	e.Request("POST", "/api/runs/list", 200, 5*time.Millisecond)
	e.Request("POST", "/api/runs/list", 400, time.Minute)
	var got strings.Builder
	if err := e.Write(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	const run = `dstack_submit_to_provision_duration_seconds_bucket{project_name="ma\"in\\",run_type="task",le=`
	for _, line := range []string{
		run + `"15.0"} 1.0`, run + `"30.0"} 2.0`, run + `"1800.0"} 2.0`, run + `"+Inf"} 3.0`,
		`dstack_submit_to_provision_duration_seconds_count{project_name="ma\"in\\",run_type="task"} 3.0`,
		`dstack_submit_to_provision_duration_seconds_sum{project_name="ma\"in\\",run_type="task"} 3631.0`,
		`dstack_pending_runs_total{project_name="ma\"in\\",run_type="service"} 2.0`,
		`dstack_server_http_requests_total{method="POST",route="/api/runs/list",status="200"} 1.0`,
		`dstack_server_http_requests_total{method="POST",route="/api/runs/list",status="400"} 1.0`,
		`dstack_server_http_request_duration_seconds_bucket{method="POST",route="/api/runs/list",le="0.005"} 1.0`,
		`dstack_server_http_request_duration_seconds_bucket{method="POST",route="/api/runs/list",le="10.0"} 1.0`,
		`dstack_server_http_request_duration_seconds_count{method="POST",route="/api/runs/list"} 2.0`,
	} {
		if !strings.Contains(got.String(), line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
	if t.Failed() {
		t.Log(got.String())
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0.0", 1: "1.0", -2: "-2.0", 0.25: "0.25", 85899345920: "85899345920.0", 1e30: "1e+30", 23.393595: "23.393595",
		math.Inf(1): "+Inf", math.Inf(-1): "-Inf",
	} {
		if got := number(v); got != want {
			t.Errorf("number(%g) = %s, want %s", v, got, want)
		}
	}
	if got := number(math.NaN()); got != "NaN" {
		t.Errorf("number(NaN) = %s", got)
	}
}

func TestStorageGauges(t *testing.T) {
	t.Parallel()
	e := exporter(t)
	e.gauges.Archives = func() int64 { return 3 }
	e.gauges.Logs = func() LogGauges { return LogGauges{Bytes: 120, Lag: 1500 * time.Millisecond, Failures: 2, Lost: 7} }
	var got strings.Builder
	if err := e.Write(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"dstack_server_logs_lag_bytes 120.0", "dstack_server_logs_lag_seconds 1.5", "dstack_server_logs_failures_total 2.0", "dstack_server_logs_lost_bytes_total 7.0",
		"dstack_server_archive_failures_total 3.0",
	} {
		if !strings.Contains(got.String(), "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
}
