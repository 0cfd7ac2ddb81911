package sshd_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// master starts a ControlMaster.
func (s *server) master() {
	s.t.Helper()
	f, err := os.OpenFile(s.config, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(f, "ControlPath %s/c\n", s.dir); err != nil {
		s.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.background("-M", "-N", "job")
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if _, _, code := s.ssh("", "-O", "check", "job"); code == 0 {
			return
		}
		if time.Now().After(end) {
			s.t.Fatal("no master")
		}
	}
}

// TestControlMaster runs 200 channels at once over one connection, and what
// ssh -O does.
func TestControlMaster(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.master()
	var wg sync.WaitGroup
	gate := filepath.Join(s.home, "gate")
	const n = 200
	for i := range n {
		wg.Go(func() {
			in := strings.Repeat(fmt.Sprintf("%d ", i), 1000)
			out, errs, code := s.ssh(in, "job", fmt.Sprintf("touch at-%d; while [ ! -e gate ]; do sleep 0.1; done; cat; exit %d", i, i%100))
			if out != in || code != i%100 {
				t.Errorf("channel %d: %.20q, %q, %d", i, out, errs, code)
			}
		})
	}
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		there, err := filepath.Glob(filepath.Join(s.home, "at-*"))
		if err != nil || time.Now().After(end) {
			t.Errorf("only %d channels, %v", len(there), err)
			break
		}
		if len(there) == n {
			break
		}
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Error(err)
	}
	wg.Wait()

	target, local, remote := echo(t), freePort(t), freePort(t)
	for _, args := range [][]string{{"-L", local + ":" + target}, {"-R", remote + ":" + target}} {
		s.expect("", "", "", 0, append([]string{"-O", "forward"}, append(args, "job")...)...)
		port, _, _ := strings.Cut(args[1], ":")
		if got := ask(t, "tcp", "127.0.0.1:"+port, "hello"); got != "hello" {
			t.Errorf("%s: %q", args, got)
		}
		s.expect("", "", "", 0, append([]string{"-O", "cancel"}, append(args, "job")...)...)
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			_ = conn.Close()
			t.Errorf("%s is still there", args)
		}
	}
	out, _, code := s.ssh("", "-O", "forward", "-R", "0:"+target, "job")
	if port := strings.TrimSpace(out); code != 0 || ask(t, "tcp", "127.0.0.1:"+port, "hi") != "hi" {
		t.Errorf("port 0: %q, %d", out, code)
	}
	if _, _, code := s.ssh("", "-O", "exit", "job"); code != 0 {
		t.Errorf("exit: %d", code)
	}
}

func TestUnixSockets(t *testing.T) {
	t.Parallel()
	s := serve(t)
	there, here, target := filepath.Join(s.home, "there"), filepath.Join(s.dir, "here"), filepath.Join(s.dir, "target")
	for _, path := range []string{there, target} {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		echoOn(t, l)
	}
	back := filepath.Join(s.home, "back")
	cmd := s.background("-N", "-L", here+":"+there, "-R", back+":"+target, "job")
	for _, path := range []string{here, back} {
		if got := ask(t, "unix", path, "hello"); got != "hello" {
			t.Errorf("%s: %q", path, got)
		}
	}
	if info, err := os.Stat(back); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Lstat(back); os.IsNotExist(err) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("socket stays")
		}
	}
}

// sshAgent starts an agent with the client's key and returns its socket.
func (s *server) sshAgent() string {
	s.t.Helper()
	socket := filepath.Join(s.dir, "agent")
	cmd := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	_ = dial(s.t, "unix", socket).Close()
	add := exec.Command("ssh-add", "-q", filepath.Join(s.dir, "id"))
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	if out, err := add.CombinedOutput(); err != nil {
		s.t.Fatalf("%s, %v", out, err)
	}
	return socket
}

func TestAgentForwarding(t *testing.T) {
	t.Parallel()
	s := serve(t)
	cmd := s.command("ssh", "-A", "job", "ssh-add -L; dirname $SSH_AUTH_SOCK")
	cmd.Env = append(cmd.Env, "SSH_AUTH_SOCK="+s.sshAgent())
	out, errs, code := s.result(cmd, "")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	key, err := os.ReadFile(filepath.Join(s.dir, "id.pub"))
	if err != nil || code != 0 || len(lines) != 2 || !strings.HasPrefix(lines[0], strings.TrimSpace(string(key))) {
		t.Fatalf("%q, %q, %d", out, errs, code)
	}
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Lstat(lines[1]); os.IsNotExist(err) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%s stays", lines[1])
		}
	}
	s.expect("", "\n", "", 0, "job", "echo $SSH_AUTH_SOCK")
}

// TestCopies uses the tools that run a program of theirs in the job.
func TestCopies(t *testing.T) {
	t.Parallel()
	s := serve(t)
	text := strings.Repeat("0123456789", 200_000)
	from := s.file("from", text)
	for name, cmd := range map[string]*exec.Cmd{
		"scp -O": s.command("scp", "-O", from, "job:old"),
		"rsync":  exec.Command("rsync", "-a", "-e", "ssh -F "+s.config, from, "job:synced"),
	} {
		if out, errs, code := s.result(cmd, ""); code != 0 {
			t.Errorf("%s: %q, %q, %d", name, out, errs, code)
		}
	}
	for _, name := range []string{"old", "synced"} {
		if got, err := os.ReadFile(filepath.Join(s.home, name)); err != nil || string(got) != text {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}
