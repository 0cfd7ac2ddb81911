package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/jobapi"
)

const jobMetrics = "/api/project/main/metrics/job/"

// measured submits a run whose job used what the steps say: each is a point
// some seconds after the first, with CPU seconds and GPUs' memory and load.
type measurement struct {
	after, cpu float64
	gpus       []jobapi.GPUUsage
}

func (r *rig) measured(name string, place bool, list ...measurement) (run api.Run, first time.Time) {
	r.t.Helper()
	run = applyRun(r.t, r, runSpec(name, ""), nil)
	first = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	r.write(func(tx *store.Tx) error {
		job, err := tx.Job(run.LatestJobSubmission.ID)
		if err != nil {
			return err
		}
		if place {
			gpu := api.GPU{Name: "H100", MemoryMiB: 81920}
			job.Provisioning = &api.JobProvisioningData{InstanceType: api.InstanceType{Resources: api.Resources{CPUs: 4, MemoryMiB: 1000, GPUs: []api.GPU{gpu, gpu}}}}
		}
		for n, m := range list {
			err := tx.InsertMetrics(store.MetricsPoint{
				JobID: job.ID, At: first.Add(time.Duration(m.after * float64(time.Second))), CPUMicro: int64(m.cpu * 1e6),
				MemoryBytes: int64(100 + n), WorkingSetBytes: int64(90 + n), GPUs: m.gpus,
			})
			if err != nil {
				return err
			}
		}
		return tx.UpdateJob(&job)
	})
	return run, first
}

// TestJobMetrics has the answers of 0.22.5 to the same points.
func TestJobMetrics(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	gpus := func(n ...int) []jobapi.GPUUsage {
		return []jobapi.GPUUsage{{MemoryBytes: int64(n[0]), UtilPercent: n[2]}, {MemoryBytes: int64(n[1]), UtilPercent: n[3]}}
	}
	run, first := r.measured("train", true, measurement{0, 0, nil}, measurement{9.876544, 5, nil},
		measurement{20, 25, gpus(10, 20, 5, 6)}, measurement{30, 26, gpus(11, 21, 50, -1)}, measurement{35, 20, gpus(12, 22, 51, 61)})
	at := func(sec int) string { return first.Add(time.Duration(sec) * time.Second).Format(time.RFC3339) }
	for name, tt := range map[string]struct {
		query string
		want  string
	}{
		"default": {"", "cpu_usage_percent=0 memory_usage_bytes=104 memory_working_set_bytes=94 cpus_detected_num=4 memory_total_bytes=1048576000 " +
			"gpus_detected_num=2 gpu_memory_total_bytes=85899345920 gpu_memory_usage_bytes_gpu0=12 gpu_memory_usage_bytes_gpu1=22 gpu_util_percent_gpu0=51 gpu_util_percent_gpu1=61"},
		"two, one without a load": {"limit=2", "cpu_usage_percent=0,10 memory_usage_bytes=104,103 memory_working_set_bytes=94,93 cpus_detected_num=4,4 memory_total_bytes=1048576000,1048576000 " +
			"gpus_detected_num=2,2 gpu_memory_total_bytes=85899345920,85899345920 gpu_memory_usage_bytes_gpu0=12,11 gpu_memory_usage_bytes_gpu1=22,21 gpu_util_percent_gpu0=51,50 gpu_util_percent_gpu1=61,0"},
		"all, with a change of GPUs": {"limit=99", "cpu_usage_percent=0,10,198,51 memory_usage_bytes=104,103,102,101 memory_working_set_bytes=94,93,92,91 cpus_detected_num=4,4,4,4 memory_total_bytes=1048576000,1048576000,1048576000,1048576000"},
		"before there were GPUs": {"limit=9&before=" + at(20), "cpu_usage_percent=51 memory_usage_bytes=101 memory_working_set_bytes=91 cpus_detected_num=4 memory_total_bytes=1048576000 " +
			"gpus_detected_num=0 gpu_memory_total_bytes=85899345920"},
		"after": {"limit=9&after=" + at(20) + "&before=" + at(35), "cpu_usage_percent=10 memory_usage_bytes=103 memory_working_set_bytes=93 cpus_detected_num=4 memory_total_bytes=1048576000 " +
			"gpus_detected_num=2 gpu_memory_total_bytes=85899345920 gpu_memory_usage_bytes_gpu0=11 gpu_memory_usage_bytes_gpu1=21 gpu_util_percent_gpu0=50 gpu_util_percent_gpu1=0"},
		"one point":       {"limit=9&after=" + at(31), ""},
		"none by request": {"limit=0", ""},
		"less than none":  {"limit=-2", ""},
		"unknown query":   {"limit=0&bogus=1", ""},
		"of the run's id": {"limit=0&run_id=" + strings.ReplaceAll(run.ID, "-", ""), ""},
	} {
		a := r.request(http.MethodGet, jobMetrics+"train?"+tt.query, adminToken, "")
		var got api.JobMetrics
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != http.StatusOK || got.Metrics == nil {
			t.Errorf("%s: %d %v in %s", name, a.status, err, a.body)
			continue
		}
		var texts []string
		for _, m := range got.Metrics {
			values, err := json.Marshal(m.Values)
			if err != nil || len(m.Timestamps) != len(m.Values) {
				t.Fatalf("%v in %+v", err, m)
			}
			texts = append(texts, m.Name+"="+strings.Trim(string(values), "[]"))
			if name == "default" && !m.Timestamps[0].Equal(first.Add(35*time.Second)) {
				t.Errorf("time of %s is %s", m.Name, m.Timestamps[0])
			}
		}
		if diff := cmp.Diff(tt.want, strings.Join(texts, " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	r.measured("new", false, measurement{0, 0, nil}, measurement{10, 1, nil})
	if a := r.request(http.MethodGet, jobMetrics+"new", memberToken, ""); strings.Contains(a.body, "cpus_detected_num") || !strings.Contains(a.body, `"gpus_detected_num"`) {
		t.Errorf("without a place: %s", a.body)
	}
}

func TestNoJobMetrics(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run, _ := r.measured("train", false)
	const none = `{"detail":[{"msg":"Found no job with given parameters","code":"resource_not_exists"}]}`
	for name, tt := range map[string]struct {
		path, token string
		status      int
		body        string
	}{
		"no run":             {"nope", adminToken, 400, none},
		"other case":         {"Train", adminToken, 400, none},
		"no replica":         {"train?replica_num=1", adminToken, 400, none},
		"no job":             {"train?job_num=1", adminToken, 400, none},
		"other run's id":     {"train?run_id=" + uuid.NewString(), adminToken, 400, none},
		"id of other name":   {"nope?run_id=" + run.ID, adminToken, 400, none},
		"outsider":           {"train", outsiderToken, 403, `{"detail":{"msg":"Access denied","code":null}}`},
		"no token":           {"train", "", 401, `{"detail":"Not authenticated"}`},
		"nothing measured":   {"train", memberToken, 200, `{"metrics":[]}`},
		"limit is no number": {"train?limit=x", adminToken, 422, `{"detail":[{"type":"int_parsing","loc":["query","limit"],"msg":"Input should be a valid integer, unable to parse string as an integer"}]}`},
	} {
		if a := r.request(http.MethodGet, jobMetrics+tt.path, tt.token, ""); a.status != tt.status || a.body != tt.body {
			t.Errorf("%s: %d %s, want %d %s", name, a.status, a.body, tt.status, tt.body)
		}
	}
	bad := r.request(http.MethodGet, jobMetrics+"train?limit=&run_id=zz&replica_num=a&after=zz", adminToken, "")
	for _, name := range []string{"limit", "run_id", "replica_num", "after"} {
		if bad.status != http.StatusUnprocessableEntity || !strings.Contains(bad.body, `"loc":["query","`+name+`"]`) {
			t.Errorf("bad %s: %d %s", name, bad.status, bad.body)
		}
	}
	r.finish(run.ID, api.RunDone)
	post[any](r, runs+"delete", `{"runs_names":["train"]}`)
	if a := r.request(http.MethodGet, jobMetrics+"train", adminToken, ""); a.status != http.StatusBadRequest {
		t.Errorf("of a deleted run: %d", a.status)
	}
	if a := r.request(http.MethodGet, jobMetrics+"train?run_id="+run.ID, adminToken, ""); a.status != http.StatusOK {
		t.Errorf("of a deleted run by id: %d %s", a.status, a.body)
	}
}
