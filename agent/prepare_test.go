package agent

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/agent/exec"
	"dstack/protocol/jobapi"
)

// image makes a root file system with a user "ml" whose home is there.
func image(t *testing.T) host {
	t.Helper()
	h := host{root: t.TempDir(), dir: t.TempDir()}
	if err := os.MkdirAll(h.path("etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	passwd := "root:x:0:0::/root:/bin/sh\nml:x:1000:1001::/home/ml:/bin/sh\n"
	if err := os.WriteFile(h.path("etc/passwd"), []byte(passwd), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestUser(t *testing.T) {
	t.Parallel()
	h := image(t)
	ml := &syscall.Credential{Uid: 1000, Gid: 1001}
	tests := []struct {
		name      string
		spec      jobapi.Spec
		canSwitch bool
		want      string
		cred      *syscall.Credential
	}{
		{"the job's", jobapi.Spec{User: "ml", ImageUser: "ghost"}, true, "ml", ml},
		{"the image's", jobapi.Spec{ImageUser: "ml"}, true, "ml", ml},
		{"unknown number", jobapi.Spec{User: "7:8"}, true, "7", &syscall.Credential{Uid: 7, Gid: 8}},
		{"with devices", jobapi.Spec{User: "7:8", DeviceGroups: []uint32{44, 105}}, true, "7", &syscall.Credential{Uid: 7, Gid: 8, Groups: []uint32{44, 105}}},
		{"without the capabilities nobody else", jobapi.Spec{User: "ml"}, false, "", nil},
		{"nobody is asked for", jobapi.Spec{}, true, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := h
			h.canSwitch = tt.canSwitch
			user, cred, err := h.user(&tt.spec)
			if err != nil {
				t.Fatal(err)
			}
			if tt.want != "" && user.Name != tt.want || tt.want == "" && int(user.UID) != os.Geteuid() {
				t.Errorf("user is %+v", user)
			}
			if diff := cmp.Diff(tt.cred, cred); diff != "" {
				t.Errorf("credential (-want +got):\n%s", diff)
			}
		})
	}
	h.canSwitch = true
	s := jobapi.Spec{User: "ghost", Isolated: true, Commands: []string{"true"}}
	_, fault := h.prepare(&s, nil)
	want := &jobapi.Status{State: jobapi.Failed, Reason: "executor_error",
		Message: `Failed to set job user (no user "ghost" in /etc/passwd of the image)`}
	if diff := cmp.Diff(want, fault); diff != "" {
		t.Errorf("unknown name (-want +got):\n%s", diff)
	}
}

func TestWantedDir(t *testing.T) {
	t.Parallel()
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, dir string
		isolated  bool
		want, err string
	}{
		{"the image's", "", true, cwd, ""},
		{"on a host the home", "", false, "/home/ml", ""},
		{"home", "~", true, "/home/ml", ""},
		{"below home", "~/a/../b", true, "/home/ml/b", ""},
		{"absolute", "/a//b/", true, "/a/b", ""},
		{"home of another", "~x", true, "", "~x: the home of another user is not supported, use ~/ or an absolute path"},
		{"relative", "a", true, "", "a is not absolute"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := host{}.wantedDir(&jobapi.Spec{WorkingDir: tt.dir, Isolated: tt.isolated}, "/home/ml")
			if got != tt.want && err == nil || err != nil && err.Error() != tt.err {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestWorkingDirOnAHost(t *testing.T) {
	t.Parallel()
	h := host{dir: t.TempDir()}
	other := &syscall.Credential{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())}
	elsewhere := filepath.Join(t.TempDir(), "x")
	if _, err := h.workingDir(&jobapi.Spec{WorkingDir: elsewhere}, "/", other); err == nil {
		t.Error("a directory of the host was created for another user")
	}
	if _, err := h.workingDir(&jobapi.Spec{WorkingDir: elsewhere}, "/", nil); err != nil {
		t.Error(err)
	}
	dir, err := h.workingDir(&jobapi.Spec{}, h.work(), other)
	if err != nil || dir != h.work() {
		t.Errorf("default is %s, %v", dir, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestHomeOnAHost(t *testing.T) {
	t.Parallel()
	given, own := t.TempDir(), t.TempDir()
	h := host{dir: "/task"}
	got := []string{
		h.home([]string{"HOME=" + given}, own), h.home([]string{"HOME=/no/such/folder"}, own),
		h.home([]string{"HOME=."}, "/"), h.home(nil, "/no/such/folder"),
	}
	if diff := cmp.Diff([]string{given, own, "/task/work", "/task/work"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRepoDir(t *testing.T) {
	t.Parallel()
	var got []string
	for _, dir := range []string{"", "r", "../r", "/r/", "~/x"} {
		path, err := repoDir(dir, "/w", "/home/me")
		if err != nil {
			t.Error(err)
		}
		got = append(got, path)
	}
	if _, err := repoDir("~you/x", "/w", "/home/me"); err == nil {
		t.Error("the home of another user is taken")
	}
	if diff := cmp.Diff([]string{"/workflow", "/w/r", "/r", "/r", "/home/me/x"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestFurnish(t *testing.T) {
	t.Parallel()
	h := image(t)
	spec := jobapi.Spec{Isolated: true, NodesIPs: []string{"10.0.0.1"}, GPUsPerNode: 2}
	s := setup{command: exec.Command{Env: []string{"SECRET=it's", "DSTACK_WORKING_DIR=/w"}}}
	for range 2 { // a second time changes nothing
		if err := h.furnish(&spec, &s); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"dstack/mpi/hostfile": {"10.0.0.1 slots=2\n", 0o644},
		"dstack/profile":      {"export SECRET='it'\\''s'\nexport DSTACK_WORKING_DIR='/w'\ncd \"$DSTACK_WORKING_DIR\"\n", 0o600},
		"etc/profile":         {"if [ -r /dstack/profile ]; then . /dstack/profile; fi # added by dstack\n", 0o644},
	} {
		if diff := cmp.Diff(want.text, h.read(path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
		if info, err := os.Stat(h.path(path)); err != nil || info.Mode().Perm() != want.mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}

	empty := host{root: t.TempDir(), dir: t.TempDir()}
	if err := empty.furnish(&spec, &s); err != nil {
		t.Errorf("empty image: %v", err)
	}
	if entries, err := os.ReadDir(empty.root); err != nil || len(entries) != 1 {
		t.Errorf("an empty image got %v, %v", entries, err)
	}
	onHost := host{root: t.TempDir(), dir: t.TempDir()}
	spec.Isolated = false
	if err := onHost.furnish(&spec, &s); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(onHost.root); err != nil || len(entries) != 0 {
		t.Errorf("a host got %v, %v", entries, err)
	}
}

func TestParseKills(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"low 0\noom 1\noom_kill 2\noom_group_kill 0\n": 2, "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n": 7, "": 0, "oom_kill x": 0,
	} {
		if got := parseKills(text); got != want {
			t.Errorf("parseKills(%q) = %d", text, got)
		}
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add([]byte(`{"commands":["sh"],"env":{"A":"b"},"working_dir":"~","max_duration":3}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := parseSpec(data)
		if err == nil && (len(spec.Commands) == 0 || strings.ContainsRune(strings.Join(spec.Commands, ""), 0)) {
			t.Errorf("accepted %q", data)
		}
	})
}
