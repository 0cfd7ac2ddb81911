package sshd_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
)

// connect logs in with Go's client.
func (s *server) connect(user string, auth ...ssh.AuthMethod) (*ssh.Client, error) {
	s.t.Helper()
	client, err := ssh.Dial("tcp", net.JoinHostPort(s.host, s.port), &ssh.ClientConfig{
		User: user, Auth: auth, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err == nil {
		s.t.Cleanup(func() { _ = client.Close() })
	}
	return client, err
}

func (s *server) connected(user string) *ssh.Client {
	s.t.Helper()
	client, err := s.connect(user, ssh.PublicKeys(s.key))
	if err != nil {
		s.t.Fatal(err)
	}
	return client
}

// liar offers a key and signs with another.
type liar struct {
	ssh.Signer
	other ssh.Signer
}

func (l liar) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	return l.other.Sign(random, data)
}

func TestRefused(t *testing.T) {
	t.Parallel()
	s := serve(t)
	stranger := s.newKey("stranger")
	for name, tt := range map[string]struct {
		user string
		auth []ssh.AuthMethod
	}{
		"unknown key":                      {"root", []ssh.AuthMethod{ssh.PublicKeys(stranger)}},
		"key that is offered but not held": {"root", []ssh.AuthMethod{ssh.PublicKeys(liar{s.key, stranger})}},
		"unknown user":                     {"ghost", []ssh.AuthMethod{ssh.PublicKeys(s.key)}},
		"no key":                           {"root", nil},
		"password":                         {"root", []ssh.AuthMethod{ssh.Password("root")}},
	} {
		if _, err := s.connect(tt.user, tt.auth...); err == nil {
			t.Errorf("%s: logged in", name)
		}
	}
}

// TestProvenKeyCounts offers a key that may log in, without holding it, and
// proves another one: that is who has logged in.
func TestProvenKeyCounts(t *testing.T) {
	t.Parallel()
	s := serve(t)
	own := s.newKey("own")
	s.authorize(string(ssh.MarshalAuthorizedKey(own.PublicKey())), 0o600)
	if err := os.Rename(filepath.Join(s.dir, "id"), filepath.Join(s.dir, "elsewhere")); err != nil { // id.pub stays
		t.Fatal(err)
	}
	out, errs, code := s.ssh("", "-v", "-o", "IdentityFile="+filepath.Join(s.dir, "id"), "-o", "IdentityFile="+filepath.Join(s.dir, "own"), "job", "echo in")
	if out != "in\n" || code != 0 || strings.Count(errs, "Server accepts key") != 2 {
		t.Errorf("%q, %q, %d", out, errs, code)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	s.stop = func() error { return nil }
	if log := s.stderr.String(); !strings.Contains(log, ssh.FingerprintSHA256(own.PublicKey())) || strings.Contains(log, ssh.FingerprintSHA256(s.key.PublicKey())) {
		t.Errorf("log: %s", log)
	}
}

// authorize writes the authorized_keys of the user.
func (s *server) authorize(text string, mode os.FileMode) {
	s.t.Helper()
	dir := filepath.Join(s.home, ".ssh")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	path := filepath.Join(dir, "authorized_keys")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		s.t.Fatal(err)
	}
}

func TestOwnAuthorizedKeys(t *testing.T) {
	t.Parallel()
	s := serve(t)
	own := s.newKey("own")
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(own.PublicKey())))
	for _, tt := range []struct {
		text string
		mode os.FileMode
		ok   bool
	}{
		{"# mine\n\n" + line + " me@home\n", 0o644, true},
		{"garbage\n" + line, 0o600, true},
		{"command=\"/bin/false\" " + line, 0o600, false},
		{"restrict,port-forwarding " + line, 0o600, false},
		{line, 0o620, false},
		{line, 0o602, false},
		{"", 0o600, false},
	} {
		s.authorize(tt.text, tt.mode)
		if _, err := s.connect("root", ssh.PublicKeys(own)); (err == nil) != tt.ok {
			t.Errorf("%.20q, mode %o: %v", tt.text, tt.mode, err)
		}
	}
	path := filepath.Join(s.home, ".ssh/authorized_keys")
	for name, spoil := range map[string]func() error{
		"home of others": func() error { return os.Chmod(s.home, 0o777) },
		"a pipe":         func() error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
		"a folder":       func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		s.authorize(line, 0o600)
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.connect("root", ssh.PublicKeys(own)); err == nil {
			t.Errorf("%s: logged in", name)
		}
		if err := errors.Join(os.Chmod(s.home, 0o755), os.Remove(path)); err != nil {
			t.Fatal(err)
		}
	}
}
