//go:build e2e

package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"dstack/protocol/api"
	"dstack/test/lab"
)

const attaches = 15

// TestAttach prints how long it takes from `dstack attach` to the prompt of a
// shell in the job, with our command line and with the real 0.22.5 client,
// against our server; and with `dstack exec`, which needs no attach.
func TestAttach(t *testing.T) {
	l := lab.OpenFor(t)
	m, err := l.NewMachine(t.Context(), lab.MachineOptions{Images: []string{lab.Busybox}})
	if err != nil {
		t.Fatal(err)
	}
	s := lab.ServerFor(t, nil)
	if result, err := s.ApplyFleet(t.Context(), "lab", m); err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	if _, err := s.Submit(t.Context(), "shell", map[string]any{"image": lab.Busybox, "commands": []string{"sleep 600"}, "ports": []int{18473}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.WaitRun(t.Context(), "shell", time.Minute, "start", func(r api.Run) bool { return r.Status == api.RunRunning }); err != nil {
		t.Fatal(err)
	}
	ours := lab.Binary("dstack")
	python := filepath.Join(lab.Home, "python-0.22.5", "bin", "dstack")
	rows := []*struct {
		name     string
		measure  func() (attached, prompt time.Duration)
		attached []time.Duration
		prompt   []time.Duration
	}{
		{name: "ours: dstack attach, ssh RUN", measure: func() (time.Duration, time.Duration) { return attachAndLogIn(t, s, ours) }},
		{name: "0.22.5: dstack attach, ssh RUN", measure: func() (time.Duration, time.Duration) { return attachAndLogIn(t, s, python) }},
		{name: "ours: dstack exec -it RUN", measure: func() (time.Duration, time.Duration) {
			return 0, untilPrompt(t, s.Command(t.Context(), s.Dir, ours, "exec", "-it", "shell"))
		}},
	}
	for range attaches { // in turns, so that what else the machine does meets all
		for _, row := range rows {
			attached, prompt := row.measure()
			row.attached, row.prompt = append(row.attached, attached), append(row.prompt, prompt)
		}
	}
	var report strings.Builder
	for _, row := range rows {
		fmt.Fprintf(&report, "%-32s attached median %s, prompt median %s (min %s, max %s)\n", row.name,
			round(median(row.attached)), round(median(row.prompt)), round(slices.Min(row.prompt)), round(slices.Max(row.prompt)))
	}
	t.Log("\n" + report.String())
}

// attachAndLogIn attaches and logs in with ssh, detaches, and gives the times
// since the start.
func attachAndLogIn(t *testing.T, s *lab.Server, program string) (attached, prompt time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	start := time.Now()
	cmd := s.Command(ctx, s.Dir, program, "attach", "shell")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "To connect to the run via SSH") {
	}
	attached = time.Since(start)
	took := untilPrompt(t, s.Command(ctx, s.Dir, "ssh", "-tt", "-F", filepath.Join(s.Dir, "home", ".ssh", "config"), "shell"))
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return attached, attached + took
}

// untilPrompt starts a program on a terminal and waits for the prompt of root.
func untilPrompt(t *testing.T, cmd *exec.Cmd) time.Duration {
	t.Helper()
	start := time.Now()
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	var seen bytes.Buffer
	buf := make([]byte, 4096)
	for !bytes.Contains(seen.Bytes(), []byte("# ")) {
		n, err := terminal.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			t.Fatalf("no prompt: %v\n%s", err, seen.String())
		}
	}
	took := time.Since(start)
	if err := terminal.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // a hang-up ended it
	return took
}
