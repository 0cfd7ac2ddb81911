package jobenv_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/agent/jobenv"
)

const oneNode = `# dstack: the nodes of the run
Host 10.0.0.1
  Port 10022
  IdentityFile "/home/m l/.ssh/dstack_job"
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
Host *
# dstack: end
`

func TestSSHConfig(t *testing.T) {
	t.Parallel()
	const key = "/home/m l/.ssh/dstack_job"
	for name, c := range map[string]struct{ before, after string }{
		"none":             {"", oneNode},
		"kept":             {"User git\nHost x\n  Port 1", oneNode + "User git\nHost x\n  Port 1"},
		"replaced":         {oneNode + "User git\n", oneNode + "User git\n"},
		"ours is not ours": {"x" + oneNode, oneNode + "x" + oneNode},
		"cut short":        {"# dstack: the nodes of the run\nHost 1", oneNode + "# dstack: the nodes of the run\nHost 1"},
	} {
		if diff := cmp.Diff(c.after, jobenv.SSHConfig(c.before, []string{"10.0.0.1"}, key)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestSSHConfigForSSH asks the real client what it makes of it.
func TestSSHConfigForSSH(t *testing.T) {
	t.Parallel()
	home := filepath.Join(t.TempDir(), "a %h b")
	key := filepath.Join(home, "dstack_job")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{key, filepath.Join(home, "other")} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	image := "Port 2222\nUser git\nHost 10.0.0.2\n  Port 1\n"
	path := filepath.Join(home, "config")
	if err := os.WriteFile(path, []byte(jobenv.SSHConfig(image, []string{"10.0.0.1", "10.0.0.2"}, key)), 0o600); err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string][]string{
		"10.0.0.1": {"port 10022", "user git", "identitiesonly yes", "stricthostkeychecking false"},
		"10.0.0.2": {"port 10022"},
		"other":    {"port 2222", "user git", "identitiesonly no"},
	} {
		out, err := exec.CommandContext(t.Context(), "ssh", "-F", path, "-G", target).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, line := range want {
			if !strings.Contains("\n"+string(out), "\n"+line+"\n") {
				t.Errorf("%s: no %q in\n%s", target, line, out)
			}
		}
	}
}

func FuzzSSHConfig(f *testing.F) {
	f.Add("")
	f.Add(oneNode + "Host x\n")
	f.Add(oneNode + oneNode)
	f.Fuzz(func(t *testing.T, before string) {
		nodes := []string{"10.0.0.1"}
		once := jobenv.SSHConfig(before, nodes, "k")
		if ours := jobenv.SSHConfig("", nodes, "k"); !strings.HasPrefix(once, ours) {
			t.Fatal("ours does not come first")
		}
		if !strings.Contains(before, "# dstack: end\n") && !strings.HasSuffix(once, before) {
			t.Fatal("what was there was changed")
		}
		if twice := jobenv.SSHConfig(once, nodes, "k"); twice != once {
			t.Fatalf("not steady: %q, then %q", once, twice)
		}
	})
}
