//go:build e2e

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

const (
	apiRuns      = 1_000
	apiInstances = 50
	apiManyRuns  = 100_000
	apiLogLines  = 10_000
	// warmUp is how many seconds each load runs before it is measured.
	warmUp = "2"
)

// apiLoad is one request that wrk sends.
type apiLoad struct{ name, path, body string }

// loads are what the issue names, as the CLI and the UI ask it.
func loads(submission string) []apiLoad {
	return []apiLoad{
		{"runs/list", "/api/runs/list", `{"project_name":"main","limit":100}`},
		{"instances/list", "/api/instances/list", `{}`},
		{"projects/list", "/api/projects/list", `{}`},
		{"runs/get_plan", "/api/project/main/runs/get_plan", `{"run_spec":{"configuration":` + benchTask + `},"max_offers":3}`},
		{"logs/poll", "/api/project/main/logs/poll", `{"run_name":"bench-0","job_submission_id":"` + submission + `","limit":100}`},
	}
}

const benchTask = `{"type":"task","image":"scratch","commands":["echo hello"],"env":{"A":"1"},"resources":{"cpu":"2..","memory":"8GB.."}}`

// result is what one program did under all loads.
type result struct {
	loads map[string]measured
	// busy are the same loads while rows change, if that was measured.
	busy map[string]measured
	// idle and loaded are its resident memory in KiB.
	idle, loaded int
}

// TestAPI prints requests a second, latency and memory of the real 0.22.5
// server and of ours under the same load, each with 1,000 finished runs and 50
// instances, and of ours with 100,000 runs. The background of all is off: what
// is measured is the API.
func TestAPI(t *testing.T) {
	seconds := os.Getenv("BENCH_SECONDS")
	if seconds == "" {
		seconds = "10"
	}
	var report strings.Builder
	small := measureOurs(t, apiRuns, seconds, true)
	large := measureOurs(t, apiManyRuns, seconds, false)
	if os.Getenv("BENCH_OURS") != "" {
		t.Logf("ours alone:\n%s", table(small, result{}, large))
		return
	}
	report.WriteString(table(small, measureReal(t, apiRuns, seconds), large))
	t.Logf("%s seconds each, 16 connections, %d runs, %d instances\n%s", seconds, apiRuns, apiInstances, &report)
}

func table(ours, real, large result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-15s %28s %28s %8s %8s %28s\n", "", "0.22.5: req/s, p50, p99", "ours: req/s, p50, p99", "req/s x", "p99 x", "ours, 100,000 runs")
	for _, l := range loads("") {
		o, r, m := ours.loads[l.name], real.loads[l.name], large.loads[l.name]
		fmt.Fprintf(&b, "%-15s %28s %28s %8.1f %8.1f %28s\n", l.name, r, o, o.rate/max(r.rate, 0.001), r.p99.Seconds()/o.p99.Seconds(), m)
		if busy := ours.busy[l.name]; busy.rate > 0 {
			fmt.Fprintf(&b, "%-15s %28s %28s %8.1f %8.1f\n", "  rows change", "", busy, busy.rate/max(r.rate, 0.001), r.p99.Seconds()/busy.p99.Seconds())
		}
	}
	fmt.Fprintf(&b, "%-15s %28s %28s %8.1f %8s %28s\n", "memory, MB", megabytes(real), megabytes(ours), float64(real.loaded)/float64(ours.loaded), "", megabytes(large))
	fmt.Fprintf(&b, "runs/list with 100,000 runs takes %.2f times as long\n", ours.loads["runs/list"].rate/large.loads["runs/list"].rate)
	return b.String()
}

func megabytes(r result) string {
	return fmt.Sprintf("%d idle, %d loaded", r.idle/1024, r.loaded/1024)
}

func measureOurs(t *testing.T, runs int, seconds string, busy bool) result {
	t.Helper()
	s := lab.ServerFor(t, []string{"DSTACK_SERVER_BACKGROUND_PROCESSING_DISABLED=1"})
	first := prepare(t, s)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	multiplyOurs(t, filepath.Join(s.Dir, "server"), first, runs)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	out := underLoad(t, s, first, seconds)
	if busy {
		out.busy = map[string]measured{}
		stop := changing(t, s)
		defer stop()
		for _, l := range loads(first) {
			out.busy[l.name] = wrk(t, s.URL, l, seconds)
			t.Logf("%s while rows change: %s", l.name, out.busy[l.name])
		}
	}
	return out
}

func measureReal(t *testing.T, runs int, seconds string) result {
	t.Helper()
	s, err := lab.StartReal(t.Context(), t.TempDir(), []string{"DSTACK_SERVER_BACKGROUND_PROCESSING_DISABLED=1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	first := prepare(t, s)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	multiplyReal(t, filepath.Join(s.Dir, "server"), runs)
	logOfReal(t, filepath.Join(s.Dir, "server"), first)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return underLoad(t, s, first, seconds)
}

// prepare makes a fleet of 50 hosts and one run through the API and returns
// the id of the run's job.
func prepare(t *testing.T, s *lab.Server) string {
	t.Helper()
	var hosts []string
	for i := range apiInstances {
		hosts = append(hosts, fmt.Sprintf("10.0.0.%d", i+1))
	}
	key := privateKey(t)
	err := s.Call(t.Context(), "project/main/fleets/apply", map[string]any{"force": false, "plan": map[string]any{
		"current_resource": nil,
		"spec": map[string]any{
			"configuration": map[string]any{"type": "fleet", "name": "bench", "ssh_config": map[string]any{
				"user": "ubuntu", "ssh_key": map[string]any{"public": "", "private": key}, "hosts": hosts,
			}},
			"profile": map[string]any{},
		},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	run, err := s.Submit(t.Context(), "bench-0", map[string]any{"image": "scratch", "commands": []string{"echo hello"}, "env": map[string]any{"A": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	return run.LatestJobSubmission.ID
}

// underLoad checks that the server answers each request as it should, then
// lets wrk send it.
func underLoad(t *testing.T, s *lab.Server, submission, seconds string) result {
	t.Helper()
	var list []api.Run
	if err := s.Call(t.Context(), "runs/list", map[string]any{"project_name": "main"}, &list); err != nil || len(list) != 100 {
		t.Fatalf("%d runs, %v", len(list), err)
	}
	var instances []map[string]any
	if err := s.Call(t.Context(), "instances/list", map[string]any{}, &instances); err != nil || len(instances) != apiInstances {
		t.Fatalf("%d instances, %v", len(instances), err)
	}
	var page struct{ Logs []any }
	err := s.Call(t.Context(), "project/main/logs/poll", map[string]any{"run_name": "bench-0", "job_submission_id": submission, "limit": 100}, &page)
	if err != nil || len(page.Logs) == 0 {
		t.Fatalf("%d log events, %v", len(page.Logs), err)
	}
	out := result{loads: map[string]measured{}, idle: memory(t, s.PID())}
	for _, l := range loads(submission) {
		wrk(t, s.URL, l, warmUp)
		out.loads[l.name] = wrk(t, s.URL, l, seconds)
		t.Logf("%s %s: %s", s.URL, l.name, out.loads[l.name])
	}
	out.loaded = memory(t, s.PID())
	return out
}

func (m measured) String() string {
	if m.rate == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f, %s, %s", m.rate, m.p50.Round(10*time.Microsecond), m.p99.Round(10*time.Microsecond))
}
