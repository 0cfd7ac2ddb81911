package sshd_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"dstack/protocol/jobssh"
)

// dial logs in as dstack's own clients do.
func (s *server) dial(user string) *ssh.Client {
	s.t.Helper()
	client, err := ssh.Dial("tcp", net.JoinHostPort(s.host, s.port), &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(s.key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

// ask sends a request of ours on a new session and waits for the end.
func (s *server) ask(client *ssh.Client, kind string, payload any) (ok bool, stdout, stderr string, status int) {
	s.t.Helper()
	text, err := json.Marshal(payload)
	if err != nil {
		s.t.Fatal(err)
	}
	if raw, is := payload.(string); is {
		text = []byte(raw)
	}
	channel, requests, err := client.OpenChannel("session", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer channel.Close()
	if ok, err = channel.SendRequest(kind, true, text); err != nil {
		s.t.Fatal(err)
	}
	if !ok {
		return false, "", "", 0
	}
	if again, _ := channel.SendRequest("shell", true, nil); again { // it may have ended by now
		s.t.Error("a second program was started")
	}
	var out, errs bytes.Buffer
	var copies sync.WaitGroup
	copies.Go(func() { _, _ = io.Copy(&out, channel) })
	copies.Go(func() { _, _ = io.Copy(&errs, channel.Stderr()) })
	for r := range requests {
		if r.Type == "exit-status" {
			status = int(binary.BigEndian.Uint32(r.Payload))
		}
	}
	copies.Wait()
	return true, out.String(), errs.String(), status
}

func TestOwnPrograms(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if err := os.Mkdir(filepath.Join(s.home, "a b"), 0o755); err != nil {
		t.Fatal(err)
	}
	client := s.dial("root")
	for name, tt := range map[string]struct {
		program jobssh.Program
		stdout  string
		stderr  string
		status  int
	}{
		"arguments as they are": {jobssh.Program{Args: []string{"printf", "%s|", "a b", "$HOME", "", "'\"\\", "*"}}, `a b|$HOME||'"\|*|`, "", 0},
		"status":                {jobssh.Program{Args: []string{"sh", "-c", "echo err >&2; exit 9"}}, "", "err\n", 9},
		"folder":                {jobssh.Program{Args: []string{"pwd"}, Dir: filepath.Join(s.home, "a b")}, s.home + "/a b\n", "", 0},
		"relative folder":       {jobssh.Program{Args: []string{"pwd"}, Dir: "a b"}, s.home + "/a b\n", "", 0},
		"variables":             {jobssh.Program{Args: []string{"sh", "-c", "echo $A $JOB_VARIABLE"}, Env: []string{"A=x=y z", "JOB_VARIABLE=mine"}}, "x=y z mine\n", "", 0},
		"no such folder":        {jobssh.Program{Args: []string{"pwd"}, Dir: "/none"}, "", "dstack: the folder /none is not there, or root may not enter it\r\n", 127},
		"no such program":       {jobssh.Program{Args: []string{"no-such-program"}}, "", "dstack: no-such-program: command not found\r\n", 127},
	} {
		ok, stdout, stderr, status := s.ask(client, jobssh.Exec, tt.program)
		if !ok || stdout != tt.stdout || stderr != tt.stderr || status != tt.status {
			t.Errorf("%s: %v, %q, %q, %d", name, ok, stdout, stderr, status)
		}
	}
	for _, bad := range []any{"{", jobssh.Program{Args: []string{"true"}, Env: []string{"A"}}, jobssh.Program{Args: []string{"true"}, Env: []string{"=A"}}} {
		if ok, _, _, _ := s.ask(client, jobssh.Exec, bad); ok {
			t.Errorf("%v was taken", bad)
		}
	}
}

// TestChecksums needs no program of the image, and has the rights of the user.
func TestChecksums(t *testing.T) {
	t.Parallel()
	s := serve(t)
	text := strings.Repeat("0123456789", 100_000)
	path := filepath.Join(s.home, "f")
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), unix.Mkfifo(path+".pipe", 0o600)); err != nil {
		t.Fatal(err)
	}
	sum := func(n int) string {
		h := sha256.Sum256([]byte(text[:n]))
		return hex.EncodeToString(h[:])
	}
	client := s.dial("root")
	for name, tt := range map[string]struct {
		file   jobssh.File
		stdout string
		stderr string
	}{
		"all":          {jobssh.File{Path: path, Length: 1_000_000}, sum(1_000_000), ""},
		"beginning":    {jobssh.File{Path: "f", Length: 12345}, sum(12345), ""},
		"nothing":      {jobssh.File{Path: "f"}, sum(0), ""},
		"short":        {jobssh.File{Path: path, Length: 1_000_001}, "", path + " has 1000000 bytes only\n"},
		"no such file": {jobssh.File{Path: "/none"}, "", "open /none: no such file or directory\n"},
		"folder":       {jobssh.File{Path: s.home}, "", s.home + " is no file\n"},
		"pipe":         {jobssh.File{Path: path + ".pipe"}, "", path + ".pipe is no file\n"},
	} {
		ok, stdout, stderr, status := s.ask(client, jobssh.Sum, tt.file)
		if !ok || stdout != tt.stdout || stderr != tt.stderr || (status == 0) != (stderr == "") {
			t.Errorf("%s: %v, %q, %q, %d", name, ok, stdout, stderr, status)
		}
	}
	if ok, _, _, _ := s.ask(client, jobssh.Sum, "["); ok {
		t.Error("a broken request was taken")
	}
	other := serve(t, func(c *config) { c.UID, c.GID = 65534, 65534 })
	if os.Geteuid() == 0 {
		if _, _, stderr, _ := other.ask(other.dial("nobody"), jobssh.Sum, jobssh.File{Path: path, Length: 1}); !strings.Contains(stderr, "permission denied") {
			t.Errorf("another user's file: %q", stderr)
		}
	}
}
