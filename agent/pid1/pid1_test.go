package pid1_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"dstack/agent/pid1"
)

// scriptVar makes the test binary an init that runs the shell script it holds.
const scriptVar = "PID1_TEST_SCRIPT"

func TestMain(m *testing.M) {
	if script := os.Getenv(scriptVar); script != "" {
		code, err := pid1.Run(context.Background(), "/bin/sh", []string{"sh", "-c", script})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 99
		}
		os.Exit(code)
	}
	os.Exit(m.Run())
}

func command(script string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), scriptVar+"="+script)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestEndsAsTheChildEnds(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]int{
		"exit 0": 0, "exit 3": 3, "kill -KILL $$": 137, "kill -TERM $$": 143,
		// The orphan, a zombie once it has ended, must disappear.
		"cd " + t.TempDir() + `; (sh -c 'echo $$ >pid' &); until [ -s pid ] && ! [ -d /proc/$(cat pid) ]; do sleep 0.01; done; exit 4`: 4,
	} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			cmd := command(script)
			_ = cmd.Run() // the code is looked at
			if got := cmd.ProcessState.ExitCode(); got != want {
				t.Errorf("exit code %d, want %d", got, want)
			}
		})
	}
}

func TestForwardsSignals(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGQUIT} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			cmd := command(fmt.Sprintf("trap 'echo got; exit %d' %d; echo ready; while :; do sleep 0.01; done", s, s))
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(out)
			if line, err := lines.ReadString('\n'); err != nil || strings.TrimSpace(line) != "ready" {
				t.Fatalf("%q, %v", line, err)
			}
			if err := cmd.Process.Signal(s); err != nil {
				t.Error(err)
			}
			_ = cmd.Wait() // the code is looked at
			if got := cmd.ProcessState.ExitCode(); got != int(s) {
				t.Errorf("exit code %d, want %d", got, s)
			}
		})
	}
}

func TestNoSuchProgram(t *testing.T) {
	t.Parallel()
	if _, err := pid1.Run(context.Background(), "/no/such/program", []string{"x"}); err == nil {
		t.Error("no error")
	}
}
