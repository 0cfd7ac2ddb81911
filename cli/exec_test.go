package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dstack/protocol/api"
)

func TestExec(t *testing.T) {
	t.Parallel()
	r := newJobRig(t)
	if err := os.Mkdir(filepath.Join(r.work, "a b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		"arguments as they are": {[]string{"job", "--", "printf", "%s|", "a b", "$HOME", "", "it's", "-x"}, 0, "a b|$HOME||it's|-x|", ""},
		"without a dash":        {[]string{"job", "pwd"}, 0, r.work + "\n", ""},
		"streams and status":    {[]string{"job", "--", "sh", "-c", "echo out; echo err >&2; exit 42"}, 42, "out\n", "err\n"},
		"signal":                {[]string{"job", "--", "sh", "-c", "kill -9 $$"}, 137, "", ""},
		"folder and variables":  {[]string{"job", "-w", "a b", "-e", "A=x y", "-e", "MINE", "-e", "NONE", "--", "sh", "-c", "pwd; echo $A $MINE $NONE $OF_JOB"}, 0, r.work + "/a b\nx y my own yes\n", ""},
		"user":                  {[]string{"-u", "root", "job", "--", "sh", "-c", "echo $USER"}, 0, "root\n", ""},
		"own user":              {[]string{"job", "--", "sh", "-c", "echo $USER"}, 0, "me\n", ""},
		"input is not taken":    {[]string{"job", "--", "cat"}, 0, "", ""},
		"no such program":       {[]string{"job", "--", "no-such"}, 127, "", "dstack: no-such: command not found\r\n"},
		"no such folder":        {[]string{"job", "-w", "/none", "--", "pwd"}, 127, "", "dstack: the folder /none is not there, or me may not enter it\r\n"},
		"no such user":          {[]string{"-u", "ghost", "job", "--", "true"}, 1, "", "ghost"},
		"no such run":           {[]string{"none", "--", "true"}, 1, "", "Run none not found\n"},
		"no such replica":       {[]string{"job", "--replica", "3", "--", "true"}, 1, "", "Failed to find replica=3 job=0 of run job\n"},
		"no terminal":           {[]string{"-t", "job", "--", "true"}, 1, "", "Standard input is no terminal: leave out -t\n"},
		"bad variable":          {[]string{"-e", "=x", "job", "--", "true"}, 2, "", "invalid value: '=x'"},
		"nothing":               {nil, 2, "", "required: run_name"},
	} {
		code, stdout, stderr := r.command(t.Context(), strings.NewReader("some input"), append([]string{"exec"}, tt.args...)...)
		if code != tt.code || stdout != tt.stdout || !strings.Contains(stderr, tt.stderr) || (tt.stderr == "") != (stderr == "") {
			t.Errorf("%s: exit code %d, %q, %q", name, code, stdout, stderr)
		}
	}
	r.ends(api.JobPulling, "pulling")
	if code, _, stderr := r.dstack("exec", "job", "--", "true"); code != 1 || stderr != "Run job is not running yet: pulling. Follow it with: dstack attach job\n" {
		t.Errorf("not yet: %d, %q", code, stderr)
	}
	r.ends(api.JobFailed, "exited (3)")
	if code, _, stderr := r.dstack("exec", "job", "--", "true"); code != 1 || stderr != "Run job is not running any more: exited (3)\n" {
		t.Errorf("not any more: %d, %q", code, stderr)
	}
}

// TestExecInput passes bytes on as they are, both ways.
func TestExecInput(t *testing.T) {
	t.Parallel()
	r := newJobRig(t)
	data := make([]byte, 3<<20)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	code, stdout, stderr := r.command(t.Context(), bytes.NewReader(data), "exec", "-i", "job", "--", "cat")
	if code != 0 || stdout != string(data) || stderr != "" {
		t.Errorf("exit code %d, %d bytes, %q", code, len(stdout), stderr)
	}
	code, stdout, stderr = r.command(t.Context(), strings.NewReader("echo $0 here; exit 5\n"), "exec", "job")
	if code != 5 || stdout != "-sh here\n" || stderr != "" {
		t.Errorf("shell: exit code %d, %q, %q", code, stdout, stderr)
	}
	// A program that ends before its input does.
	endless, stop := io.Pipe()
	defer stop.Close()
	if code, _, stderr := r.command(t.Context(), endless, "exec", "-i", "job", "--", "true"); code != 0 {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}

// TestExecEnds has what ends a command from outside.
func TestExecEnds(t *testing.T) {
	t.Parallel()
	r := newJobRig(t)
	// waiting runs a command and calls f once it has begun.
	waiting := func(f func(cancel context.CancelFunc), script string) (int, string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		in, out := io.Pipe()
		read := make(chan struct{})
		go func() {
			defer close(read)
			if _, err := io.ReadFull(in, make([]byte, len("begin\n"))); err == nil {
				f(cancel)
			}
			_, _ = io.Copy(io.Discard, in)
		}()
		var errs bytes.Buffer
		code := r.start(ctx, strings.NewReader(""), out, &errs, "exec", "job", "--", "sh", "-c", script)
		_ = out.Close()
		<-read
		return code, errs.String()
	}
	code, stderr := waiting(func(context.CancelFunc) { r.cut() }, "echo begin; sleep 60")
	if code != exitLost || stderr != "The connection to run job was lost. The command may still be running there.\n" {
		t.Errorf("cut: %d, %q", code, stderr)
	}
	note := filepath.Join(r.home, "note")
	code, _ = waiting(func(cancel context.CancelFunc) { cancel() }, "trap 'sleep 0.2; echo cleaning up; echo ended > "+note+"; exit' TERM; echo begin; while :; do sleep 0.1; done")
	if code != exitInterrupted {
		t.Errorf("stopped: %d", code)
	}
	eventually(t, "the command gets TERM", func() bool {
		text, err := os.ReadFile(note)
		return err == nil && string(text) == "ended\n"
	})
}

// TestExecTerminal is a shell on a terminal.
func TestExecTerminal(t *testing.T) {
	t.Parallel()
	r := newJobRig(t)
	x := openPTY(t, r.here, r.url, func() {}, "exec", "job")
	x.send("tty; stty size; echo $TERM\n")
	x.expect("/dev/pts/")
	x.expect("40 120\r\nxterm-256color\r\n")
	x.send("PS1='now''> '\n")
	x.expect("now> ")
	x.send("sh -c \"echo be'gin'; exec sleep 60\"\n")
	x.expect("begin\r\n")
	x.send(ctrlC) // for the sleep, not for dstack
	x.expect("now> ")
	x.send("exit 7\n")
	x.exits(7)
	y := openPTY(t, r.here, r.url, func() {}, "exec", "-t", "job", "--", "sh", "-c", `stty -echo; trap 'stty size' WINCH; echo ready; while ! read -r line; do :; done; echo "got $line"; exit 3`)
	y.expect("ready")
	y.resize(50, 90)
	y.expect("50 90")
	y.send("a line\n")
	y.expect("got a line")
	y.exits(3)
}

// TestExecInterrupt passes Ctrl-C on without a terminal, too.
func TestExecInterrupt(t *testing.T) {
	t.Parallel()
	r := newJobRig(t)
	x := openPTY(t, r.here, r.url, func() {}, "exec", "job", "--", "sh", "-c", "trap 'echo cleaned up; exit 9' INT; echo ready; while :; do sleep 0.1; done")
	x.expect("ready")
	x.send(ctrlC)
	x.expect("cleaned up")
	x.exits(9)
	stubborn := openPTY(t, r.here, r.url, func() {}, "exec", "job", "--", "sh", "-c", "trap 'echo no' INT; echo ready; while :; do sleep 0.1; done")
	stubborn.expect("ready")
	for range patientPresses {
		stubborn.send(ctrlC)
		stubborn.expect("no")
	}
	stubborn.send(ctrlC)
	stubborn.exits(exitInterrupted)
}
