package agent_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/agent"
	"dstack/protocol/jobapi"
	"dstack/test/gitserver"
)

// blob leaves data for the agent and gives its name.
func blob(t *testing.T, c agent.Config, data []byte) string {
	t.Helper()
	sum := sha256.Sum256(data)
	hash := hex.EncodeToString(sum[:])
	dir := filepath.Join(c.Dir, jobapi.BlobsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, hash), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return hash
}

// tarball is a tar file; names are in order, folders end with a slash.
func tarball(t *testing.T, pairs ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		h := &tar.Header{Name: pairs[i], Mode: 0o755, Size: int64(len(pairs[i+1])), Typeflag: tar.TypeReg}
		if strings.HasSuffix(h.Name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(pairs[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// remote serves a repo with one commit, and gives its URL and that commit,
// and a diff to it.
func remote(t *testing.T, token string) (url, hash string, diff []byte) {
	t.Helper()
	root, work := t.TempDir(), filepath.Join(t.TempDir(), "work")
	gitserver.Git(t, root, "init", "-q", "--bare", "r.git")
	gitserver.Git(t, root, "clone", "-q", "r.git", work)
	gitserver.Git(t, work, "checkout", "-q", "-b", "main")
	hash = gitserver.Commit(t, work, map[string]string{"f": "old\n"})
	gitserver.Git(t, work, "push", "-q", "origin", "main")
	gitserver.Git(t, filepath.Join(root, "r.git"), "symbolic-ref", "HEAD", "refs/heads/main")
	if err := os.WriteFile(filepath.Join(work, "f"), []byte("new\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := osexec.Command("git", "diff", hash)
	cmd.Dir, cmd.Env = work, gitserver.Env()
	diff, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(gitserver.Handler(t, root, token))
	t.Cleanup(s.Close)
	return s.URL + "/r.git", hash, diff
}

func TestRepoAndFiles(t *testing.T) {
	t.Parallel()
	url, hash, diff := remote(t, "")
	c := config(t)
	spec := script(t, `cat code/f; git -C code branch --show-current; pwd | grep -c . ; cat one dir/x "$DSTACK_REPO_DIR/f"; ls -A `+c.Dir+` | grep blobs`)
	spec.RepoDir = "code"
	spec.Repo = &jobapi.Repo{CloneURL: url, Branch: "main", Hash: hash, Code: blob(t, c, diff)}
	spec.Files = []jobapi.File{
		{Blob: blob(t, c, tarball(t, "any.txt", "1\n")), Path: "one"},
		{Blob: blob(t, c, tarball(t, "src/", "", "src/x", "2\n")), Path: filepath.Join(spec.WorkingDir, "dir")},
	}
	r := start(t, c, spec)
	one := 1
	check(t, r.end(), jobapi.Status{State: jobapi.Failed, Reason: "container_exited_with_error", ExitStatus: &one}) // grep finds no blobs
	want := "new\r\nmain\r\n1\r\n1\r\n2\r\nnew\r\n"
	if diff := cmp.Diff(want, r.file(jobapi.PlainLog)); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestRepoDirThatIsThere(t *testing.T) {
	t.Parallel()
	url, hash, _ := remote(t, "")
	for _, keep := range []bool{false, true} {
		c := config(t)
		spec := script(t, "cat code/mine; ls code")
		spec.RepoDir = "code"
		spec.Repo = &jobapi.Repo{CloneURL: url, Hash: hash, KeepExisting: keep}
		dir := filepath.Join(spec.WorkingDir, "code")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "mine"), []byte("mine\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		zero := 0
		want := jobapi.Status{State: jobapi.Done, Reason: "done_by_runner", ExitStatus: &zero}
		log := "mine\r\nmine\r\n"
		if !keep {
			want = jobapi.Status{State: jobapi.Failed, Reason: "container_exited_with_error", Message: "Failed to set up the repo (" +
				dir + " exists already and is not empty: remove it, choose another path, or set if_exists: skip)"}
			log = ""
		}
		r := start(t, c, spec)
		check(t, r.end(), want)
		if diff := cmp.Diff(log, r.file(jobapi.PlainLog)); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	}
}

func TestUploadedRepo(t *testing.T) {
	t.Parallel()
	c := config(t)
	spec := script(t, "cat code/dir/x")
	spec.RepoDir = "code"
	spec.Repo = &jobapi.Repo{Code: blob(t, c, tarball(t, "dir/", "", "dir/x", "1\n"))}
	r := start(t, c, spec)
	zero := 0
	check(t, r.end(), jobapi.Status{State: jobapi.Done, Reason: "done_by_runner", ExitStatus: &zero})
	if got := r.file(jobapi.PlainLog); got != "1\r\n" {
		t.Errorf("log %q", got)
	}
}

func TestFetchFails(t *testing.T) {
	t.Parallel()
	url, hash, _ := remote(t, "sesame")
	for name, tt := range map[string]struct {
		change func(t *testing.T, c agent.Config, s *jobapi.Spec)
		reason string
		begins string
	}{
		"no access": {func(_ *testing.T, _ agent.Config, s *jobapi.Spec) {
			s.Repo = &jobapi.Repo{CloneURL: url, Hash: hash, OAuthToken: "wrong-token"}
		}, "container_exited_with_error", "Failed to set up the repo (git "},
		"a diff for another commit": {func(t *testing.T, c agent.Config, s *jobapi.Spec) {
			public, _, _ := remote(t, "")
			s.Repo = &jobapi.Repo{CloneURL: public, Code: blob(t, c, []byte("diff --git a/none b/none\nindex d00491f..1191247 100644\n--- a/none\n+++ b/none\n@@ -1 +1 @@\n-1\n+2\n"))}
		}, "container_exited_with_error", "Failed to set up the repo (apply your changes: "},
		"a damaged archive": {func(t *testing.T, c agent.Config, s *jobapi.Spec) {
			s.Files = []jobapi.File{{Blob: blob(t, c, []byte("no tar")), Path: "x"}}
		}, "executor_error", "Failed to set up files (x: read archive: "},
		"an archive that is not there": {func(_ *testing.T, _ agent.Config, s *jobapi.Spec) {
			s.Files = []jobapi.File{{Blob: "abc", Path: "x"}}
		}, "executor_error", "Failed to set up files (open what was uploaded: "},
		"a file of the host": {func(t *testing.T, c agent.Config, s *jobapi.Spec) {
			path := filepath.Join(t.TempDir(), "mine")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			s.Files = []jobapi.File{{Blob: blob(t, c, tarball(t, "x", "1")), Path: path}}
		}, "executor_error", "Failed to set up files ("},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config(t)
			spec := script(t, "echo never")
			spec.RepoDir = "code"
			tt.change(t, c, &spec)
			r := start(t, c, spec)
			got := r.end()
			if got.State != jobapi.Failed || got.Reason != tt.reason || !strings.HasPrefix(got.Message, tt.begins) {
				t.Errorf("status %+v", got)
			}
			if strings.Contains(got.Message, "wrong-token") || strings.Contains(r.file(jobapi.DiagnosticsLog), "wrong-token") {
				t.Errorf("the token is told: %+v", got)
			}
			if log := r.file(jobapi.PlainLog); log != "" {
				t.Errorf("log %q", log)
			}
		})
	}
}

// A clone that hangs is ended with the job.
func TestStopWhileCloning(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	spec := script(t, "echo never")
	spec.RepoDir = "code"
	spec.Repo = &jobapi.Repo{CloneURL: s.URL + "/r.git"}
	r := start(t, config(t), spec)
	<-asked
	r.stop(jobapi.StopRequest{Reason: "terminated_by_user"})
	check(t, r.end(), jobapi.Status{State: jobapi.Terminated, Reason: "terminated_by_user"})
}

// Without isolation the home is in the task's folder.
func TestGitCredentials(t *testing.T) {
	t.Parallel()
	url, hash, _ := remote(t, "sesame")
	c := config(t)
	home := filepath.Join(c.Dir, "work")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	spec := script(t, "cat ~/.config/gh/hosts.yml; stat -c %a ~/.config/gh/hosts.yml; grep -r sesame code/.git")
	spec.Env = map[string]string{"HOME": home}
	spec.RepoDir = "code"
	spec.Repo = &jobapi.Repo{CloneURL: url, Hash: hash, OAuthToken: "sesame"}
	r := prepared(t, c, spec)
	r.cmd.Env = append(r.cmd.Env, "HOME="+home)
	r.start()
	one := 1
	check(t, r.end(), jobapi.Status{State: jobapi.Failed, Reason: "container_exited_with_error", ExitStatus: &one}) // grep finds nothing
	if got := r.file(jobapi.PlainLog); got != "127.0.0.1:\r\n  oauth_token: \"sesame\"\r\n600\r\n" {
		t.Errorf("log %q", got)
	}
	if _, err := os.Stat(filepath.Join(home, ".config/gh/hosts.yml")); err == nil {
		t.Error("the token is left after the job")
	}
}
