package repo

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"dstack/protocol/jobapi"
	"dstack/sshlink/sshtest"
	"dstack/test/gitserver"
)

// TestMain is also the program that git asks for credentials.
func TestMain(m *testing.M) {
	if code, known, err := Command(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr); known {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}
	// Submodules of the tests are on this disk.
	os.Setenv("GIT_CONFIG_COUNT", "1")
	os.Setenv("GIT_CONFIG_KEY_0", "protocol.file.allow")
	os.Setenv("GIT_CONFIG_VALUE_0", "always")
	os.Exit(m.Run())
}

// origin is a repo with two branches: main has two commits, dev one more.
type origin struct {
	root, work         string
	first, second, dev string
}

func newOrigin(t *testing.T) origin {
	t.Helper()
	o := origin{root: t.TempDir()}
	o.work = filepath.Join(t.TempDir(), "work")
	gitserver.Git(t, o.root, "init", "-q", "--bare", "r.git")
	gitserver.Git(t, o.root, "clone", "-q", filepath.Join(o.root, "r.git"), o.work)
	gitserver.Git(t, o.work, "checkout", "-q", "-b", "main")
	o.first = gitserver.Commit(t, o.work, map[string]string{"f": "1\n", "gone": "x\n", "bin": "\x00\x01", "dir/deep": "d\n", "tool": "t\n"})
	o.second = gitserver.Commit(t, o.work, map[string]string{"f": "1\n2\n"})
	gitserver.Git(t, o.work, "push", "-q", "origin", "main")
	gitserver.Git(t, o.work, "checkout", "-q", "-b", "dev")
	o.dev = gitserver.Commit(t, o.work, map[string]string{"dev": "d\n"})
	gitserver.Git(t, o.work, "push", "-q", "origin", "dev")
	gitserver.Git(t, o.work, "checkout", "-q", "main")
	gitserver.Git(t, filepath.Join(o.root, "r.git"), "symbolic-ref", "HEAD", "refs/heads/main")
	return o
}

// both runs a test with git and with the library.
func both(t *testing.T, fn func(t *testing.T, use func(Request) worker)) {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("git", func(t *testing.T) {
		t.Parallel()
		fn(t, func(r Request) worker { return &program{req: r, git: git, self: os.Args[0]} })
	})
	t.Run("library", func(t *testing.T) {
		t.Parallel()
		fn(t, func(r Request) worker { return &library{req: r} })
	})
}

func head(t *testing.T, dir string) string { return gitserver.Git(t, dir, "rev-parse", "HEAD") }

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestWhatIsCheckedOut(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	url := httptest.NewServer(gitserver.Handler(t, o.root, ""))
	t.Cleanup(url.Close)
	both(t, func(t *testing.T, use func(Request) worker) {
		for name, tt := range map[string]struct {
			repo         jobapi.Repo
			head, branch string
			remotes      int
		}{
			"default branch":           {jobapi.Repo{}, o.second, "main", 2},
			"one branch":               {jobapi.Repo{SingleBranch: true}, o.second, "main", 1},
			"branch":                   {jobapi.Repo{Branch: "dev"}, o.dev, "dev", 2},
			"branch alone":             {jobapi.Repo{Branch: "dev", SingleBranch: true}, o.dev, "dev", 1},
			"branch at a commit":       {jobapi.Repo{Branch: "main", Hash: o.first, SingleBranch: true}, o.first, "main", 1},
			"commit":                   {jobapi.Repo{Hash: o.first}, o.first, "", 2},
			"short commit":             {jobapi.Repo{Hash: o.first[:8], SingleBranch: true}, o.first, "", 1},
			"commit of another branch": {jobapi.Repo{Hash: o.dev[:8], SingleBranch: true}, o.dev, "", 2},
		} {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "lost+found"), 0o700); err != nil {
				t.Fatal(err)
			}
			tt.repo.CloneURL, tt.repo.ConfigName, tt.repo.ConfigEmail = url.URL+"/r.git", "Me", "me@example.com"
			if err := use(Request{tt.repo, dir}).clone(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			branch := ""
			if out, err := exec.Command("git", "-C", dir, "symbolic-ref", "--short", "-q", "HEAD").Output(); err == nil {
				branch = strings.TrimSpace(string(out))
			}
			remotes := strings.Count(gitserver.Git(t, dir, "for-each-ref", "--format=%(refname)", "refs/remotes/origin/main", "refs/remotes/origin/dev"), "refs/")
			if got := head(t, dir); got != tt.head || branch != tt.branch || remotes != tt.remotes {
				t.Errorf("%s: at %s on %q with %d branches, want %s on %q with %d", name, got, branch, remotes, tt.head, tt.branch, tt.remotes)
			}
			if status := gitserver.Git(t, dir, "status", "--porcelain"); status != "" {
				t.Errorf("%s: changed: %s", name, status)
			}
			if tt.branch != "" {
				if up := gitserver.Git(t, dir, "rev-parse", "--abbrev-ref", "@{upstream}"); up != "origin/"+tt.branch {
					t.Errorf("%s: follows %s", name, up)
				}
			}
			if who := gitserver.Git(t, dir, "config", "user.name") + gitserver.Git(t, dir, "config", "user.email"); who != "Meme@example.com" {
				t.Errorf("%s: commits are of %s", name, who)
			}
		}
	})
}

func TestCloneFails(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	url := httptest.NewServer(gitserver.Handler(t, o.root, ""))
	t.Cleanup(url.Close)
	both(t, func(t *testing.T, use func(Request) worker) {
		for want, repo := range map[string]jobapi.Repo{
			"is not in the repo": {CloneURL: url.URL + "/r.git", Hash: strings.Repeat("ab", 20)},
			"not":                {CloneURL: url.URL + "/none.git"},
			"nobranch":           {CloneURL: url.URL + "/r.git", Branch: "nobranch", SingleBranch: true},
			"onnect":             {CloneURL: "http://127.0.0.1:1/r.git"},
		} {
			err := use(Request{repo, t.TempDir()}).clone(t.Context())
			if err == nil || !strings.Contains(err.Error(), want) && want != "nobranch" {
				t.Errorf("%s: %v", want, err)
			}
		}
	})
}

func TestEmptyRepo(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	gitserver.Git(t, root, "init", "-q", "--bare", "e.git")
	url := httptest.NewServer(gitserver.Handler(t, root, ""))
	t.Cleanup(url.Close)
	both(t, func(t *testing.T, use func(Request) worker) {
		if err := use(Request{jobapi.Repo{CloneURL: url.URL + "/e.git"}, t.TempDir()}).clone(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAccess(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	closed := httptest.NewServer(gitserver.Handler(t, o.root, "sesame"))
	t.Cleanup(closed.Close)
	key, signer := sshtest.NewKey(t)
	other, _ := sshtest.NewKey(t)
	server := sshtest.Start(t, sshtest.Options{Authorized: []ssh.PublicKey{signer.PublicKey()}, Env: gitserver.Env()})
	overSSH := fmt.Sprintf("ssh://git@127.0.0.1:%d%s/r.git", server.Port, o.root)
	both(t, func(t *testing.T, use func(Request) worker) {
		for name, tt := range map[string]struct {
			repo jobapi.Repo
			ok   bool
		}{
			"token":       {jobapi.Repo{CloneURL: closed.URL + "/r.git", OAuthToken: "sesame"}, true},
			"wrong token": {jobapi.Repo{CloneURL: closed.URL + "/r.git", OAuthToken: "wrong-token"}, false},
			"no token":    {jobapi.Repo{CloneURL: closed.URL + "/r.git"}, false},
			"key":         {jobapi.Repo{CloneURL: overSSH, PrivateKey: key}, true},
			"wrong key":   {jobapi.Repo{CloneURL: overSSH, PrivateKey: other}, false},
			"no key":      {jobapi.Repo{CloneURL: overSSH, PrivateKey: "junk"}, false},
		} {
			dir := t.TempDir()
			err := use(Request{tt.repo, dir}).clone(t.Context())
			if tt.ok != (err == nil) {
				t.Errorf("%s: %v", name, err)
			}
			if err != nil && strings.Contains(err.Error(), "wrong-token") {
				t.Errorf("%s: the token is in the error: %v", name, err)
			}
			if err != nil {
				continue
			}
			if head(t, dir) != o.second {
				t.Errorf("%s: at %s", name, head(t, dir))
			}
			if cfg := read(t, filepath.Join(dir, ".git/config")); strings.Contains(cfg, "sesame") {
				t.Errorf("%s: the token is left in %s", name, cfg)
			}
		}
	})
}

func TestSubmodules(t *testing.T) {
	t.Parallel()
	o, inner := newOrigin(t), newOrigin(t)
	gitserver.Git(t, o.work, "submodule", "--quiet", "add", filepath.Join(inner.root, "r.git"), "mod")
	gitserver.Git(t, o.work, "commit", "-q", "-m", "module")
	gitserver.Git(t, o.work, "push", "-q", "origin", "main")
	url := httptest.NewServer(gitserver.Handler(t, o.root, ""))
	t.Cleanup(url.Close)
	both(t, func(t *testing.T, use func(Request) worker) {
		dir := t.TempDir()
		if err := use(Request{jobapi.Repo{CloneURL: url.URL + "/r.git"}, dir}).clone(t.Context()); err != nil {
			t.Fatal(err)
		}
		if read(t, filepath.Join(dir, "mod/f")) != "1\n2\n" {
			t.Error("the submodule is not there")
		}
	})
}

func TestDiff(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	url := httptest.NewServer(gitserver.Handler(t, o.root, ""))
	t.Cleanup(url.Close)
	// All kinds of changes, against the first commit.
	for name, text := range map[string]string{"f": "1\n2\n3", "bin": "\x00\x02\xff", "ü (x)\ty": "new\n", "newbin": strings.Repeat("\x00\x01", 300), "empty": "", "tool": "t\n"} {
		if err := os.WriteFile(filepath.Join(o.work, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	steps := []error{
		os.Remove(filepath.Join(o.work, "gone")), os.RemoveAll(filepath.Join(o.work, "dir")),
		os.Chmod(filepath.Join(o.work, "tool"), 0o755), os.Symlink("f", filepath.Join(o.work, "link")),
		os.WriteFile(filepath.Join(o.work, "dir"), []byte("a folder became a file\n"), 0o644),
	}
	for _, err := range steps {
		if err != nil {
			t.Fatal(err)
		}
	}
	gitserver.Git(t, o.work, "add", "-A")
	cmd := exec.Command("git", "diff", "--binary", "--no-renames", o.first)
	cmd.Dir, cmd.Env = o.work, gitserver.Env()
	diff, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	both(t, func(t *testing.T, use func(Request) worker) {
		dir := t.TempDir()
		w := use(Request{jobapi.Repo{CloneURL: url.URL + "/r.git", Branch: "main", Hash: o.first}, dir})
		if err := w.clone(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.apply(t.Context(), bytes.NewReader(diff)); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("diff", "-r", "--no-dereference", "--exclude=.git", o.work, dir).CombinedOutput(); err != nil {
			t.Errorf("after the diff: %s", out)
		}
		if info, err := os.Stat(filepath.Join(dir, "tool")); err != nil || info.Mode().Perm()&0o111 == 0 {
			t.Errorf("tool: %v, %v", info, err)
		}
		if err := w.apply(t.Context(), bytes.NewReader(diff)); err == nil {
			t.Error("the diff fits twice")
		}
	})
}

// A diff never changes what is outside of the repo.
func TestDiffStaysInside(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"../evil", "/tmp/evil-dstack", "l/evil", ".git/hooks/x/../../../../evil"} {
		top := t.TempDir()
		dir := filepath.Join(top, "repo")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("..", filepath.Join(dir, "l")); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("diff --git a/%[1]s b/%[1]s\nnew file mode 100644\nindex 0000000..d00491f\n--- /dev/null\n+++ b/%[1]s\n@@ -0,0 +1 @@\n+1\n", name)
		err := applyDiff(strings.NewReader(text), dir)
		if _, there := os.Stat(filepath.Join(top, "evil")); there == nil || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzApply(f *testing.F) {
	f.Add([]byte("diff --git a/f b/f\nindex d00491f..1191247 100644\n--- a/f\n+++ b/f\n@@ -1 +1,2 @@\n 1\n+2\n"))
	f.Fuzz(func(t *testing.T, diff []byte) {
		top := t.TempDir()
		dir := filepath.Join(top, "repo")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte("1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		_ = applyDiff(bytes.NewReader(diff), dir)
		if entries, err := os.ReadDir(top); err != nil || len(entries) != 1 {
			t.Fatalf("outside: %v, %v", entries, err)
		}
	})
}

func TestParseSSH(t *testing.T) {
	t.Parallel()
	target, port, command, err := parseSSH([]string{"-o", "SendEnv=GIT_PROTOCOL", "-4", "-p", "2222", "git@h", "git-upload-pack '/r'"})
	if err != nil || target != "git@h" || port != "2222" || command != "git-upload-pack '/r'" {
		t.Errorf("%s %s %s, %v", target, port, command, err)
	}
	for _, args := range [][]string{nil, {"-p"}, {"host"}} {
		if _, _, _, err := parseSSH(args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
