//go:build e2e

package shim

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"dstack/protocol/hostapi"
)

func withID(id string, s hostapi.TaskSpec) hostapi.TaskSpec {
	s.Job.JobID = id
	return s
}

func TestE2EProcess(t *testing.T) {
	s := newRealShim(t, "process")

	t.Run("runs as a user of its own, cleanly", func(t *testing.T) {
		s.Put("p1", withID("p1", shell(`id -u; pwd; echo $HOME; env | grep -c -i shim; echo $GREETING; exit 3`)))
		got := s.Await("p1", hostapi.TaskTerminated)
		if got.ExitStatus == nil || *got.ExitStatus != 3 || got.Reason != reasonExited {
			t.Errorf("end = %+v", got)
		}
		lines := strings.Split(strings.ReplaceAll(s.Log("p1"), "\r", ""), "\n")
		if uid, err := strconv.Atoi(lines[0]); err != nil || uid < 1_900_000_000 {
			t.Errorf("uid = %q", lines[0])
		}
		if lines[1] != lines[2] || !strings.HasSuffix(lines[1], "p1/work") || lines[3] != "0" || lines[4] != "hi" {
			t.Errorf("log = %q", lines)
		}
		dir := strings.TrimSuffix(lines[1], "/work")
		s.Remove("p1")
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("folder %s after removal: %v", dir, err)
		}
	})

	t.Run("survives a kill of the shim", func(t *testing.T) {
		s.Put("p2", withID("p2", shell(`for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.3; done`)))
		s.Await("p2", hostapi.TaskRunning)
		s.kill(syscall.SIGKILL)
		s.start()
		if got := s.Await("p2", hostapi.TaskTerminated); got.Reason != reasonDone {
			t.Errorf("end = %+v", got)
		}
		if got := strings.ReplaceAll(s.Log("p2"), "\r", ""); got != "1\n2\n3\n4\n5\n6\n7\n8\n" {
			t.Errorf("log = %q", got)
		}
	})

	t.Run("stop ends everything", func(t *testing.T) {
		s.Put("p3", withID("p3", shell(`setsid sleep 4711 & trap "" INT; echo up; while :; do sleep 1; done`)))
		s.Await("p3", hostapi.TaskRunning)
		s.AwaitLog("p3", "up")
		s.Stop("p3", hostapi.StopTask{Grace: 0, Reason: "aborted_by_user"})
		if got := s.Await("p3", hostapi.TaskTerminated); got.Reason != "aborted_by_user" {
			t.Errorf("end = %+v", got)
		}
		if pid := find("sleep\x004711\x00"); pid != 0 {
			t.Errorf("process %d of the job still runs", pid)
		}
	})

	t.Run("agent killed", func(t *testing.T) {
		s.Put("p4", withID("p4", shell(`sleep 4712`)))
		s.Await("p4", hostapi.TaskRunning)
		if err := syscall.Kill(s.agentOf("p4"), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if got := s.Await("p4", hostapi.TaskTerminated); got.Reason != reasonExecutor {
			t.Errorf("end = %+v", got)
		}
		if pid := find("sleep\x004712\x00"); pid != 0 {
			t.Errorf("process %d of the job still runs", pid)
		}
	})

	t.Run("reaches neither the shim nor its neighbour", func(t *testing.T) {
		s.Put("p5", withID("p5", shell(`sleep 4713`)))
		s.Await("p5", hostapi.TaskRunning)
		other := fmt.Sprintf("/proc/%d/cwd/agent.sock", s.agentOf("p5"))
		s.Put("p6", withID("p6", shell(fmt.Sprintf(`
			for sock in %s/shim.sock %s; do
				echo | busybox nc local:$sock 2>/dev/null && echo "reached $sock"
			done
			ls %s >/dev/null 2>&1 && echo "can list the home"
			kill -0 %d 2>/dev/null && echo "can signal the agent"
			exit 0`, s.home, other, s.home, s.agentOf("p5")))))
		if got := s.Await("p6", hostapi.TaskTerminated); got.Reason != reasonDone || strings.Contains(s.Log("p6"), "reached") || strings.Contains(s.Log("p6"), "can ") {
			t.Errorf("end = %+v, log %q", got, s.Log("p6"))
		}
		s.Remove("p5")
		s.Remove("p6")
	})
}

// agentOf is the process id of a task's agent.
func (s *realShim) agentOf(id string) int {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.home, "tasks", id, "pid"))
	if err != nil {
		s.t.Fatal(err)
	}
	var who struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal(b, &who); err != nil {
		s.t.Fatal(err)
	}
	return who.PID
}

// find is the process whose command line contains a text; 0 if there is none.
func find(text string) int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err == nil && strings.Contains(string(b), text) {
			return pid
		}
	}
	return 0
}
