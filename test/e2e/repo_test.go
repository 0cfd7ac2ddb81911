//go:build e2e

package e2e

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"dstack/protocol/api"
	"dstack/sshlink/sshtest"
	"dstack/test/gitserver"
	"dstack/test/lab"
)

// imageWithGit is busybox with the git of this machine, without what git
// needs for HTTP.
const imageWithGit = lab.Registry + "/busybox-git:1"

const gitImage = `for f in $(ldd /usr/bin/git | grep -o '/[^ ]*'); do mkdir -p ".$(dirname $f)" && cp -L "$f" ".$f"; done
mkdir -p usr/bin usr/lib/git-core && cp /usr/bin/git usr/bin/ && cp -P /usr/lib/git-core/git /usr/lib/git-core/git-submodule* usr/lib/git-core/`

// makeGitImage puts the image into the engine of the lab.
func makeGitImage(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("sh", "-ec", gitImage)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("collect git: %v: %s", err, out)
	}
	if err := shared.lab.Derive(t.Context(), lab.Busybox, dir, imageWithGit); err != nil {
		t.Fatal(err)
	}
}

// site is a Git server on this machine that a key opens.
type site struct {
	url, keyFile, key string
	work              string // a working copy with changes
}

// The changes of the working copy.
var newBinary = strings.Repeat("\x00\xff\n", 1000)

func newSite(t *testing.T) site {
	t.Helper()
	root, work := t.TempDir(), filepath.Join(t.TempDir(), "work")
	private, signer := sshtest.NewKey(t)
	host, _, _ := strings.Cut(lab.Registry, ":")
	server := sshtest.Start(t, sshtest.Options{Authorized: []ssh.PublicKey{signer.PublicKey()}, Env: gitserver.Env(), Addr: host + ":0"})
	bare := filepath.Join(root, "r.git")
	gitserver.Git(t, root, "init", "-q", "--bare", bare)
	gitserver.Git(t, root, "clone", "-q", bare, work)
	gitserver.Git(t, work, "checkout", "-q", "-b", "main")
	gitserver.Commit(t, work, map[string]string{"tracked": "old\n", "gone": "gone\n", ".gitignore": "*.skip\n"})
	gitserver.Git(t, work, "push", "-q", "-u", "origin", "main")
	s := site{url: "ssh://git@" + net.JoinHostPort(host, strconv.Itoa(server.Port)) + bare, keyFile: filepath.Join(t.TempDir(), "key"), key: private, work: work}
	gitserver.Git(t, work, "remote", "set-url", "origin", s.url)
	gitserver.Commit(t, work, map[string]string{"unpushed": "unpushed\n"})
	gitserver.Git(t, work, "rm", "-q", "gone")
	for path, text := range map[string]string{
		s.keyFile: private, work + "/tracked": "new\n", work + "/untracked ü": "untracked\n", work + "/bin": newBinary, work + "/no.skip": "no\n",
		work + "/data/a.txt": "a\n", work + "/data/b.log": "b\n", work + "/data/sub/.dstackignore": "c*\n", work + "/data/sub/c.txt": "c\n", work + "/data/.gitignore": "*.log\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// look shows what a job finds: its repo, then its files.
const look = `cd "$DSTACK_REPO_DIR" && echo "repo $PWD" && cat tracked unpushed 'untracked ü' && md5sum <bin | cut -c1-32 && ls -d gone no.skip 2>&1 | grep -c 'No such' && ls -dn tracked .git | awk '{print "owner " $3}' && cd "$DSTACK_WORKING_DIR" && find files | sort && cat files/a.txt one.yml | head -n 2 && test -w files/a.txt && echo writable`

func seen(repoDir, owner string) []string {
	sum := md5.Sum([]byte(newBinary))
	return []string{
		"repo " + repoDir, "new", "unpushed", "untracked", hex.EncodeToString(sum[:]), "2", "owner " + owner, "owner " + owner,
		"files", "files/.gitignore", "files/a.txt", "files/sub", "files/sub/.dstackignore", "a", "type: task", "writable",
	}
}

func (s site) configuration(t *testing.T, name, fields string) string {
	t.Helper()
	file := filepath.Join(s.work, name+".skip")
	text := fmt.Sprintf(`type: task
name: %s
%s
repos: [".:code"]
files: ["data:files", "%s.skip:one.yml"]
commands:
  - |
    %s
  - sleep 4
resources: {cpu: 1.., memory: 0.1.., disk: 1GB..}
`, name, fields, name, look)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(file)
}

// TestRepo runs tasks with a repo, local changes and files: in containers
// without git and with it, as root and as another user, as a plain process,
// and from the unchanged Python client.
func TestRepo(t *testing.T) {
	s := newSite(t)
	makeGitImage(t)
	machine, err := shared.lab.NewMachine(t.Context(), lab.MachineOptions{Images: []string{lab.Busybox, imageWithGit}})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := shared.lab.NewMachine(t.Context(), lab.MachineOptions{NoDocker: true})
	if err != nil {
		t.Fatal(err)
	}
	fleets := map[string]string{
		"git":   fmt.Sprintf("ssh_config: {user: ubuntu, identity_file: %s, hosts: [%s]}\n", machine.Key, machine.IP),
		"plain": fmt.Sprintf("env: [DSTACK_SHIM_RUNTIME=process]\nssh_config: {user: ubuntu, identity_file: %s, hosts: [%s]}\n", plain.Key, plain.IP),
	}
	for name, fields := range fleets {
		file := filepath.Join(t.TempDir(), "fleet.dstack.yml")
		if err := os.WriteFile(file, []byte("type: fleet\nname: "+name+"\n"+fields), 0o600); err != nil {
			t.Fatal(err)
		}
		if result, err := shared.server.CLI(t.Context(), t.TempDir(), "apply", "-f", file, "-y"); err != nil || result.Exit != 0 {
			t.Fatalf("%+v, %v", result, err)
		}
	}
	python := venv(t)
	ours := func(args ...string) (lab.Result, error) { return shared.server.CLI(t.Context(), s.work, args...) }
	theirs := func(args ...string) (lab.Result, error) {
		return shared.server.Python(t.Context(), s.work, python, args...)
	}
	if r, err := theirs("project", "add", "--name", "main", "--url", shared.server.URL, "--token", lab.Token, "-y"); err != nil || r.Exit != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, tt := range []struct {
		name, fields string
		apply        func(args ...string) (lab.Result, error)
		dir, owner   string
	}{
		{"repo-lib", "image: " + lab.Busybox + "\nfleets: [git]\nworking_dir: /w", ours, "/w/code", "0"},
		{"repo-git", "image: " + imageWithGit + "\nfleets: [git]\nworking_dir: /w", ours, "/w/code", "0"},
		{"repo-user", "image: " + imageWithGit + "\nfleets: [git]\nworking_dir: /home/worker/w\nuser: worker", ours, "/home/worker/w/code", "1234"},
		{"repo-lib-user", "image: " + lab.Busybox + "\nfleets: [git]\nworking_dir: ~/w\nuser: worker", ours, "/home/worker/w/code", "1234"},
		{"repo-plain", "image: " + lab.Busybox + "\nfleets: [plain]", ours, "", ""},
		{"repo-python", "image: " + imageWithGit + "\nfleets: [git]\nworking_dir: /w", theirs, "/w/code", "0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := s.configuration(t, tt.name, tt.fields)
			if r, err := tt.apply("apply", "-y", "-d", "-f", file, "--git-identity", s.keyFile); err != nil || r.Exit != 0 {
				t.Fatalf("%+v, %v", r, err)
			}
			run, err := shared.server.WaitRun(t.Context(), tt.name, time.Minute, "start", func(r api.Run) bool { return r.Status == api.RunRunning || r.Status.Finished() })
			if err != nil {
				t.Fatal(err)
			}
			if tt.dir != "" && run.Status == api.RunRunning {
				s.hidden(t, machine)
			}
			if run, err = shared.server.Finish(t.Context(), tt.name, time.Minute); err != nil {
				t.Fatal(err)
			}
			log, err := shared.server.Logs(t.Context(), run)
			if err != nil {
				t.Fatal(err)
			}
			_, said, _ := strings.Cut("\n"+strings.ReplaceAll(string(log), "\r", ""), "\nrepo ") // after busybox has introduced itself
			lines := strings.Split("repo "+strings.TrimSpace(said), "\n")
			if tt.dir == "" && len(lines) > 7 { // the folder and the user of a process are the shim's choice
				tt.dir, tt.owner = strings.TrimPrefix(lines[0], "repo "), strings.TrimPrefix(lines[6], "owner ")
			}
			if want := seen(tt.dir, tt.owner); run.Status != api.RunDone || strings.Join(lines, "\n") != strings.Join(want, "\n") {
				t.Errorf("run is %s (%s), log:\n%s\nwant:\n%s", run.Status, text(run.LatestJobSubmission.TerminationReasonMessage), log, strings.Join(want, "\n"))
			}
		})
	}
	if strings.Contains(shared.server.Log(), secretOf(s.key)) {
		t.Error("the key is in the server's log")
	}
	for _, name := range []string{"git", "plain"} {
		if result, err := ours("fleet", "delete", "-y", name); err != nil || result.Exit != 0 {
			t.Errorf("%+v, %v", result, err)
		}
	}
}

// secretOf is a line of a key that nothing else has.
func secretOf(key string) string { return strings.Split(key, "\n")[2] }

// hidden looks for the key where others could find it while the job runs.
func (s site) hidden(t *testing.T, m *lab.Machine) {
	t.Helper()
	for what, command := range map[string]string{
		"docker inspect":    "docker ps -q | xargs -r docker inspect",
		"the shim's folder": "cat /root/.dstack/tasks/*/task.json /root/.dstack/tasks/*/run/job.json 2>/dev/null; find /root/.dstack -name id_rsa",
		"arguments":         "cat /proc/*/cmdline 2>/dev/null",
	} {
		out, err := m.Exec(t.Context(), command+" || true")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out, secretOf(s.key)) {
			t.Errorf("the key is in %s", what)
		}
	}
}

// TestRepoFails shows that a user learns why a repo did not come.
func TestRepoFails(t *testing.T) {
	s := newSite(t)
	file := filepath.Join(s.work, "bad.skip")
	text := "type: task\nname: repo-bad\nimage: " + lab.Busybox + "\nworking_dir: /w\nrepos: [{url: \"" + s.url + "\", hash: 0123456789012345678901234567890123456789}]\ncommands: [echo never]\nresources: {cpu: 1.., memory: 0.1.., disk: 1GB..}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := shared.server.CLI(t.Context(), s.work, "apply", "-y", "-f", file, "--git-identity", s.keyFile)
	if err != nil || r.Exit != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if want := "Failed to set up the repo (commit 0123456789012345678901234567890123456789 is not in the repo: push it, or choose one that is)"; !strings.Contains(r.Stdout, want) {
		t.Errorf("apply says %s", r.Stdout)
	}
	run, err := shared.server.Run(t.Context(), "repo-bad")
	if err != nil || run.LatestJobSubmission.TerminationReason == nil || *run.LatestJobSubmission.TerminationReason != string(api.ReasonContainerError) {
		t.Errorf("run %+v, %v", run.LatestJobSubmission, err)
	}
}
