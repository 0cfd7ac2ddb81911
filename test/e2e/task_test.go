//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// TestTasks runs one task for each way in which a job can end, and looks at
// status, reason, exit status and log.
func TestTasks(t *testing.T) {
	tests := []struct {
		name    string
		task    map[string]any
		status  api.RunStatus
		reason  api.JobReason
		exit    int // -1: none
		log     string
		message string // part of the termination message
	}{
		{"exit-0", map[string]any{"image": lab.Busybox, "commands": []string{"echo started", "echo bye"}},
			api.RunDone, api.ReasonDoneByRunner, 0, "started\r\nbye\r\n", ""},
		{"exit-3", map[string]any{"image": lab.Busybox, "commands": []string{"echo oh", "exit 3"}},
			api.RunFailed, api.ReasonContainerError, 3, "oh\r\n", ""},
		{"signal", map[string]any{"image": lab.Busybox, "commands": []string{"kill -SEGV $$"}},
			api.RunFailed, api.ReasonContainerError, 139, "", ""},
		{"no-such-image", map[string]any{"image": lab.Missing, "commands": []string{"true"}},
			api.RunFailed, api.ReasonCreatingContainer, -1, "", "nothing"},
		{"private-right", map[string]any{"image": lab.Private, "commands": []string{"echo in"},
			"registry_auth": map[string]any{"username": lab.RegistryUser, "password": lab.RegistryPassword}},
			api.RunDone, api.ReasonDoneByRunner, 0, "in\r\n", ""},
		{"no-such-command", map[string]any{"image": lab.Busybox, "commands": []string{"does-not-exist"}},
			api.RunFailed, api.ReasonContainerError, 127, "not found", ""},
		{"other-user", map[string]any{"image": lab.Busybox, "user": "worker", "commands": []string{"id -u", "echo $HOME", "touch x && ls x"}, "working_dir": "~/work"},
			api.RunDone, api.ReasonDoneByRunner, 0, "1234\r\n/home/worker\r\nx\r\n", ""},
		{"unknown-user", map[string]any{"image": lab.Busybox, "user": "nobody-there", "commands": []string{"true"}},
			api.RunFailed, api.ReasonExecutorError, -1, "", "Failed to set job user"},
		{"numeric-user", map[string]any{"image": lab.Busybox, "user": "4321:77", "commands": []string{"id -u; id -g"}},
			api.RunDone, api.ReasonDoneByRunner, 0, "4321\r\n77\r\n", ""},
		{"distroless", map[string]any{"image": lab.Distroless, "entrypoint": "/busybox echo", "commands": []string{"from nothing"}},
			api.RunDone, api.ReasonDoneByRunner, 0, "from nothing\r\n", ""},
		{"environment", map[string]any{"image": lab.Busybox, "env": map[string]any{"A": "1 2"}, "commands": []string{"echo $A $DSTACK_RUN_NAME $DSTACK_NODES_NUM $DSTACK_NODE_RANK"}},
			api.RunDone, api.ReasonDoneByRunner, 0, "1 2 environment 1 0\r\n", ""},
		{"out-of-time", map[string]any{"image": lab.Busybox, "commands": []string{"sleep 60"}, "max_duration": 1},
			api.RunFailed, api.ReasonMaxDuration, -1, "", "Max duration exceeded"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// Two hosts take the tasks in turn; retry waits for a free one.
			tt.task["retry"] = map[string]any{"on_events": []string{"no-capacity"}, "duration": "10m"}
			if _, err := shared.server.Submit(t.Context(), tt.name, tt.task); err != nil {
				t.Fatal(err)
			}
			run, err := shared.server.Finish(t.Context(), tt.name, 1*time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			job := run.LatestJobSubmission
			if run.Status != tt.status || job.TerminationReason == nil || *job.TerminationReason != string(tt.reason) {
				t.Errorf("status %s, reason %s (%s); want %s, %s", run.Status, text(job.TerminationReason), text(job.TerminationReasonMessage), tt.status, tt.reason)
			}
			if tt.exit >= 0 && (job.ExitStatus == nil || *job.ExitStatus != tt.exit) {
				t.Errorf("exit status %v, want %d", job.ExitStatus, tt.exit)
			}
			if !strings.Contains(text(job.TerminationReasonMessage), tt.message) {
				t.Errorf("message %q, want %q in it", text(job.TerminationReasonMessage), tt.message)
			}
			log, err := shared.server.Logs(t.Context(), run)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(log), tt.log) {
				t.Errorf("log %q, want %q in it", log, tt.log)
			}
		})
	}
}

// TestWrongPassword wants the image away from the host: a present image needs no registry.
func TestWrongPassword(t *testing.T) {
	for _, m := range shared.machines {
		if _, err := m.Exec(t.Context(), "docker rmi -f "+lab.Private+" || true"); err != nil {
			t.Fatal(err)
		}
	}
	task := map[string]any{"image": lab.Private, "commands": []string{"true"}, "registry_auth": map[string]any{"username": lab.RegistryUser, "password": "wrong"}}
	if _, err := shared.server.Submit(t.Context(), "private-wrong", task); err != nil {
		t.Fatal(err)
	}
	run, err := shared.server.Finish(t.Context(), "private-wrong", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if got := text(run.LatestJobSubmission.TerminationReason); run.Status != api.RunFailed || got != string(api.ReasonCreatingContainer) {
		t.Errorf("status %s, reason %s, message %s", run.Status, got, text(run.LatestJobSubmission.TerminationReasonMessage))
	}
}

// TestStop ends a run that handles INTR, and one that ignores it by abort.
func TestStop(t *testing.T) {
	tests := []struct {
		name    string
		command string
		abort   bool
		status  api.JobStatus
		log     string
	}{
		{"stop", "trap 'echo bye; exit 0' INT; echo ready; while :; do sleep 0.1; done", false, api.JobTerminated, "bye"},
		{"abort", "trap 'echo bye' INT TERM HUP; echo ready; while :; do sleep 0.1; done", true, api.JobAborted, "ready"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := shared.server.Submit(t.Context(), tt.name, map[string]any{"image": lab.Busybox, "commands": []string{tt.command}}); err != nil {
				t.Fatal(err)
			}
			run, err := shared.server.WaitRun(t.Context(), tt.name, time.Minute, "start", func(r api.Run) bool { return r.Status == api.RunRunning })
			if err != nil {
				t.Fatal(err)
			}
			err = lab.Wait(t.Context(), 20*time.Second, "first line", func(ctx context.Context) error {
				log, err := shared.server.Logs(ctx, run)
				if err == nil && !strings.Contains(string(log), "ready") {
					err = errNotReady
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			args := []string{"stop", "-y", tt.name}
			if tt.abort {
				args = append(args, "-x")
			}
			if result, err := shared.server.CLI(t.Context(), t.TempDir(), args...); err != nil || result.Exit != 0 {
				t.Fatalf("%+v, %v", result, err)
			}
			run, err = shared.server.Finish(t.Context(), tt.name, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if run.Status != api.RunTerminated || run.LatestJobSubmission.Status != tt.status {
				t.Errorf("run %s, job %s; want job %s", run.Status, run.LatestJobSubmission.Status, tt.status)
			}
			log, err := shared.server.Logs(t.Context(), run)
			if err != nil || !strings.Contains(string(log), tt.log) {
				t.Errorf("log %q, %v; want %q in it", log, err, tt.log)
			}
			nothingLeft(t)
		})
	}
}

// nothingLeft checks that no container remains on any machine.
func nothingLeft(t *testing.T) {
	t.Helper()
	for _, m := range shared.machines {
		err := lab.Wait(t.Context(), 20*time.Second, "removal of containers", func(ctx context.Context) error {
			names, err := m.Containers(ctx)
			if err == nil && len(names) > 0 {
				err = fmt.Errorf("%s still has %v", m.Name, names)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

var errNotReady = errors.New("not ready")

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
