package hostkeys

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	got := Lines([]Grant{
		{Keys: []string{"ssh-ed25519 AAA me", "command=\"x\" ssh-ed25519 BBB", "ssh-rsa A\nssh-rsa B", ""}, WholeHost: true},
		{Keys: []string{"ssh-ed25519 CCC"}, Port: 32768},
		{Keys: []string{"ssh-ed25519 CCC"}, Port: 32768},
		{Keys: []string{"ssh-ed25519 DDD"}},
		// Two jobs of one user, whose key has two comments.
		{Keys: []string{"ssh-ed25519  EEE  me@a"}, Port: 32800},
		{Keys: []string{"ssh-ed25519 EEE me@b"}, Port: 32790},
		// A job that has the host to itself, after one that shared it.
		{Keys: []string{"ssh-ed25519 FFF"}, Port: 32770},
		{Keys: []string{"ssh-ed25519 FFF again"}, WholeHost: true, Port: 32771},
	})
	want := []string{
		`restrict,port-forwarding,permitopen="localhost:32768",permitlisten="localhost:1",command="/bin/false" ssh-ed25519 CCC # added by dstack-shim`,
		`restrict,port-forwarding,permitopen="localhost:32790",permitopen="localhost:32800",permitlisten="localhost:1",command="/bin/false" ssh-ed25519  EEE  me@a # added by dstack-shim`,
		"ssh-ed25519 AAA me # added by dstack-shim",
		"ssh-ed25519 FFF # added by dstack-shim",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Lines (-want +got):\n%s", diff)
	}
}

func TestApplyTouchesOnlyItsOwnLines(t *testing.T) {
	home := t.TempDir()
	uid, gid := os.Getuid(), os.Getgid()
	read := func() string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(home, fileName))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if err := Apply(home, uid, gid, []string{"ssh-rsa A" + Marker}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(home, fileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v", info, err)
	}
	if err := os.WriteFile(filepath.Join(home, fileName), []byte("ssh-rsa OWN # added by dstack\n"+read()+"ssh-rsa LAST"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Apply(home, uid, gid, []string{"ssh-rsa B" + Marker}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("ssh-rsa OWN # added by dstack\nssh-rsa LAST\nssh-rsa B"+Marker+"\n", read()); diff != "" {
		t.Errorf("after change (-want +got):\n%s", diff)
	}
	if err := Apply(home, uid, gid, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("ssh-rsa OWN # added by dstack\nssh-rsa LAST\n", read()); diff != "" {
		t.Errorf("after removal (-want +got):\n%s", diff)
	}
}

func TestApplyFollowsNoLinkOutOfTheHome(t *testing.T) {
	home, elsewhere := t.TempDir(), t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(home, ".ssh")); err != nil {
		t.Fatal(err)
	}
	if err := Apply(home, os.Getuid(), os.Getgid(), []string{"ssh-rsa A" + Marker}); err == nil {
		t.Error("Apply wrote through a link out of the home")
	}
	if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) != 0 {
		t.Errorf("elsewhere: %v, %v", entries, err)
	}
}

// TestApplyWaitsForNobody: what is no file of keys is refused at once.
func TestApplyWaitsForNobody(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"a pipe":        func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a huge file":   func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)) },
		"a folder":      func(path string) error { return os.Mkdir(path, 0o700) },
		"a broken link": func(path string) error { return os.Symlink("/nowhere", path) },
	} {
		home := t.TempDir()
		if err := errors.Join(os.Mkdir(filepath.Join(home, ".ssh"), 0o700), put(filepath.Join(home, ".ssh/authorized_keys"))); err != nil {
			t.Fatal(err)
		}
		if err := Apply(home, os.Getuid(), os.Getgid(), []string{"ssh-rsa A" + Marker}); err == nil {
			t.Errorf("%s was replaced", name)
		}
	}
}
