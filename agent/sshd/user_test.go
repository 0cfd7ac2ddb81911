package sshd_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	worker = 12345
	group  = 12346
	extra  = 12347
)

// asWorker serves a user who is not root. It needs root.
func asWorker(t *testing.T) *server {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test becomes another user: run it as root")
	}
	return serve(t, func(c *config) { c.UID, c.GID, c.Groups = worker, group, []uint32{extra} })
}

func owner(t *testing.T, path string) [2]uint32 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no owner")
	}
	return [2]uint32{stat.Uid, stat.Gid}
}

// TestUser: everything that a login does, it does as its user.
func TestUser(t *testing.T) {
	t.Parallel()
	s := asWorker(t)
	s.expect("", fmt.Sprintf("%d %d\n%d %d\n", worker, worker, group, group), "", 0, "job", "echo $(id -u) $(id -ru); echo $(id -g) $(id -rg)")
	s.expect("", fmt.Sprintf("%d %d\n", group, extra), "", 0, "job", "id -G")
	out, _, code := s.ssh("", "-tt", "job", "stat -c %u $(tty)")
	if strings.TrimSpace(out) != fmt.Sprint(worker) || code != 0 {
		t.Errorf("terminal: %q, %d", out, code)
	}
	from := s.file("from", "text")
	if out, errs, code := s.result(s.command("scp", from, "job:to"), ""); code != 0 {
		t.Fatalf("%q, %q, %d", out, errs, code)
	}
	if got := owner(t, filepath.Join(s.home, "to")); got != [2]uint32{worker, group} {
		t.Errorf("copied file: %v", got)
	}
	roots := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(roots, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	openUp(t, roots)
	if _, errs, code := s.result(s.command("scp", "job:"+roots, "stolen"), ""); code == 0 {
		t.Errorf("file of root was read: %q", errs)
	}
}

// TestUserSockets: unix sockets are reached and made as the user, who is also
// what the other side is told.
func TestUserSockets(t *testing.T) {
	t.Parallel()
	s := asWorker(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	open, closed := filepath.Join(dir, "open"), filepath.Join(dir, "closed")
	openUp(t, open)
	peers := make(chan uint32, 1)
	for path, mode := range map[string]os.FileMode{open: 0o666, closed: 0o600} {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				peers <- peer(conn)
				_ = conn.Close()
			}
		}()
	}
	client := s.connected("worker")
	conn, err := client.Dial("unix", open)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if got := <-peers; got != worker {
		t.Errorf("peer is user %d", got)
	}
	if _, err := client.Dial("unix", closed); err == nil {
		t.Error("socket of root was reached")
	}
	if _, err := client.ListenUnix(filepath.Join(dir, "mine")); err == nil {
		t.Error("socket in a folder of root was made")
	}
	mine := filepath.Join(s.home, "mine")
	if _, err := client.ListenUnix(mine); err != nil {
		t.Fatal(err)
	}
	if got := owner(t, mine); got[0] != worker {
		t.Errorf("socket belongs to %v", got)
	}
}

// peer is the user at the other end.
func peer(conn net.Conn) uint32 {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	var uid uint32
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid = cred.Uid
		}
	})
	return uid
}

func TestUserAgentSocket(t *testing.T) {
	t.Parallel()
	s := asWorker(t)
	cmd := s.command("ssh", "-A", "job", "stat -c '%u %a' $SSH_AUTH_SOCK $(dirname $SSH_AUTH_SOCK)")
	cmd.Env = append(cmd.Env, "SSH_AUTH_SOCK="+s.sshAgent())
	out, errs, code := s.result(cmd, "")
	if out != fmt.Sprintf("%d 600\n%d 700\n", worker, worker) || code != 0 {
		t.Errorf("%q, %q, %d", out, errs, code)
	}
}
