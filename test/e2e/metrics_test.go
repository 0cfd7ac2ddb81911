//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// get asks the server for a path.
func get(ctx context.Context, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, shared.server.URL+path, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+lab.Token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %d: %s", path, response.StatusCode, body)
	}
	return string(body), err
}

// TestMetrics lets a job keep one CPU busy and hold 100 MB, and wants to see
// that within seconds through the REST API, the CLI and Prometheus.
func TestMetrics(t *testing.T) {
	const hold = 100 << 20
	command := fmt.Sprintf("awk 'BEGIN { s = sprintf(\"%%%ds\", \"\"); while (1) n++ }'", hold)
	if _, err := shared.server.Submit(t.Context(), "busy", map[string]any{"image": lab.Busybox, "commands": []string{command}}); err != nil {
		t.Fatal(err)
	}
	run, err := shared.server.WaitRun(t.Context(), "busy", time.Minute, "start", func(r api.Run) bool { return r.Status == api.RunRunning })
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	newest := map[string]float64{}
	err = lab.Wait(t.Context(), time.Minute, "metrics", func(ctx context.Context) error {
		body, err := get(ctx, "/api/project/main/metrics/job/busy")
		if err != nil {
			return err
		}
		var m api.JobMetrics
		if err := json.Unmarshal([]byte(body), &m); err != nil {
			return err
		}
		for _, s := range m.Metrics {
			newest[s.Name] = s.Values[0]
		}
		if newest["cpu_usage_percent"] < 20 || newest["memory_working_set_bytes"] < hold {
			return fmt.Errorf("metrics are %v: %w", newest, errNotReady)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("after %s: %v", time.Since(began).Round(100*time.Millisecond), newest)
	if newest["memory_usage_bytes"] < newest["memory_working_set_bytes"] || newest["cpus_detected_num"] < 1 ||
		newest["memory_total_bytes"] < hold || newest["gpus_detected_num"] != 0 {
		t.Errorf("metrics are %v", newest)
	}
	text, err := get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`dstack_job_memory_usage_bytes{dstack_project_name="main",dstack_user_name="admin",dstack_run_name="busy",dstack_run_id="` + run.ID + `",dstack_job_name="busy-0-0"`,
		`dstack_job_cpu_time_seconds_total{dstack_project_name="main",dstack_user_name="admin",dstack_run_name="busy"`,
		`dstack_instance_duration_seconds_total{dstack_project_name="main",dstack_fleet_name="lab"`,
		`dstack_submit_to_provision_duration_seconds_count{project_name="main",run_type="task"}`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("Prometheus gets no %s", line)
		}
	}
	// Other tests have hosts of their own, and some leave one that is coming back.
	const connected = "\ndstack_server_hosts_connected "
	if _, after, ok := strings.Cut(text, connected); !ok || !strings.ContainsAny(after[:1], "123456789") {
		t.Errorf("Prometheus gets no%s above 0", connected)
	}
	shown, err := shared.server.CLI(t.Context(), t.TempDir(), "metrics", "busy")
	if err != nil || shown.Exit != 0 || !strings.Contains(shown.Stdout, "job=0  cpu") || strings.Contains(shown.Stdout, "no data") {
		t.Errorf("%+v, %v", shown, err)
	}
	if result, err := shared.server.CLI(t.Context(), t.TempDir(), "stop", "-y", "-x", "busy"); err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	if _, err := shared.server.Finish(t.Context(), "busy", time.Minute); err != nil {
		t.Fatal(err)
	}
	if said, err := shared.server.CLI(t.Context(), t.TempDir(), "logs", "-d", "busy"); err != nil || said.Exit != 0 || !strings.Contains(said.Stdout, "agent ends") {
		t.Errorf("log of the agent: %+v, %v", said, err)
	}
	if body, err := get(t.Context(), "/api/project/main/metrics/job/busy"); err != nil || !strings.Contains(body, "cpu_usage_percent") {
		t.Errorf("of a finished run: %v, %s", err, body)
	}
}
