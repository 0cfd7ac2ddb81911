package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"dstack/agent/account"
	"dstack/agent/exec"
	"dstack/protocol/jobapi"
)

// TestLogins finds who may log in as whom, and who gets the job's secrets.
func TestLogins(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	const passwd = "root:x:0:0:root:/root:/bin/bash\nworker:x:1234:1235::/home/worker:/bin/zsh\nother:x:99:99::/home/other:/bin/sh\n"
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte(passwd), 0o600); err != nil {
		t.Fatal(err)
	}
	worker := setup{
		user:    account.User{Name: "worker", UID: 1234, GID: 77, Home: "/home/worker", Shell: "/bin/zsh"},
		command: exec.Command{Env: []string{"SECRET=s"}, Dir: "/work", Credential: &syscall.Credential{Uid: 1234, Gid: 77}},
	}
	container, process := &jobapi.Spec{Isolated: true, Env: map[string]string{"SECRET": "s"}}, &jobapi.Spec{}
	for _, tt := range []struct {
		name      string
		spec      *jobapi.Spec
		canSwitch bool
		uid, gid  int // -1: refused
		secret    bool
	}{
		{"worker", container, true, 1234, 77, true}, // the group is that of the job
		{"1234", container, true, 1234, 77, true},
		{"root", container, true, 0, 0, true},
		{"other", container, true, 99, 99, false},
		{"4321", container, true, 4321, 0, false},
		{"ghost", container, true, -1, -1, false},
		{"", container, true, -1, -1, false},
		{"worker:root", container, true, -1, -1, false},
		{"worker", container, false, 1234, 77, true},
		{"root", container, false, 1234, 77, true},
		{"other", container, false, -1, -1, false},
		{"worker", process, true, 1234, 77, true},
		{"1234", process, true, 1234, 77, true},
		{"root", process, true, 1234, 77, true},
		{"other", process, true, -1, -1, false},
	} {
		l := logins{host: host{root: root, canSwitch: tt.canSwitch}, spec: tt.spec, job: &worker}
		who, err := l.account(tt.name)
		if err != nil {
			if tt.uid >= 0 {
				t.Errorf("%q: %v", tt.name, err)
			}
			continue
		}
		if int(who.UID) != tt.uid || int(who.GID) != tt.gid {
			t.Errorf("%q is %d:%d, want %d:%d", tt.name, who.UID, who.GID, tt.uid, tt.gid)
		}
		if tt.uid == os.Geteuid() != (who.Credential == nil) || who.Credential != nil && (who.Credential.Uid != who.UID || who.Credential.Gid != who.GID) {
			t.Errorf("%q becomes %+v", tt.name, who.Credential)
		}
		if slices.Contains(who.Env, "SECRET=s") != tt.secret || slices.ContainsFunc(who.Env, func(v string) bool { return strings.HasPrefix(v, "SECRET=") }) != tt.secret {
			t.Errorf("%q gets %q", tt.name, who.Env)
		}
	}
}
