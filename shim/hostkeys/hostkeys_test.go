package hostkeys

import (
	"os"
	"path/filepath"
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
