package templates

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"dstack/test/gitserver"
)

// repo makes a git repo with these files.
func repo(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir, "-c", "user.name=n", "-c", "user.email=a@b"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	run("init", "-q")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run("add", "-A")
	run("commit", "-q", "-m", "x")
	return "file://" + dir
}

func titles(r *Repos, t *testing.T, url string) string {
	t.Helper()
	var out []string
	for _, x := range r.List(t.Context(), url) {
		out = append(out, x.Title)
	}
	return strings.Join(out, " ")
}

const good = "type: template\nname: n\ntitle: "

func TestList(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	r := New(dir, func() time.Time { return now }, zerolog.Nop())
	url := repo(t, map[string]string{
		".dstack/templates/b.yml":      good + "B\nconfiguration: {type: task}\n",
		".dstack/templates/a.yaml":     good + "A\nconfiguration: {}\n",
		".dstack/templates/c.yml":      "type: nope\n",
		".dstack/templates/d.yml":      "a: [",
		".dstack/templates/e.txt":      good + "E\nconfiguration: {}\n",
		".dstack/templates/sub/f.yml":  good + "F\nconfiguration: {}\n",
		".dstack/templates/large.yml":  good + strings.Repeat("x", mostBytes) + "\nconfiguration: {}\n",
		".dstack/templates/ü file.yml": good + "U\nconfiguration: {}\n",
		"other.yml":                    good + "O\nconfiguration: {}\n",
	})
	if got := titles(r, t, url); got != "A B U" {
		t.Errorf("templates %q, want A B U", got)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	// For a while the repo is not looked at again, then it is.
	path := strings.TrimPrefix(url, "file://")
	if err := os.Rename(path, path+"-moved"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(keep - time.Second)
	if got := titles(r, t, url); got != "A B U" {
		t.Errorf("templates %q after a while", got)
	}
	now = now.Add(time.Second)
	if got := titles(r, t, url); got != "" {
		t.Errorf("templates %q of a repo that is gone", got)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	r := New(t.TempDir(), time.Now, zerolog.Nop())
	local := repo(t, map[string]string{"a": "b"})
	path := strings.TrimPrefix(local, "file://")
	root := filepath.Dir(path)
	if err := os.Rename(path, path+".git"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gitserver.Handler(t, root, ""))
	defer server.Close()
	if err := r.Check(t.Context(), server.URL+"/"+filepath.Base(path)+".git"); err != nil {
		t.Error(err)
	}
	// Whoever owns a project must not find out what this machine has.
	for _, url := range []string{local + ".git", path + ".git", "FILE://" + path + ".git", "./x:y", path + ".git/x://../.."} {
		if err := r.Check(t.Context(), url); err == nil {
			t.Errorf("%s was taken", url)
		}
	}
	for _, url := range []string{"file://" + t.TempDir(), "--upload-pack=touch /tmp/x", "ext::sh -c touch% /tmp/x"} {
		if err := r.Check(t.Context(), url); err == nil {
			t.Errorf("%s was taken", url)
		}
		if got := r.List(t.Context(), url); len(got) > 0 {
			t.Errorf("%s has templates %v", url, got)
		}
	}
	if err := r.Clean(); err != nil {
		t.Error(err)
	}
}

// TestNoCredentials reads a repo without what the server's own user has: who
// names a repo must not read with it.
func TestNoCredentials(t *testing.T) {
	home := t.TempDir()
	for name, text := range map[string]string{
		".gitconfig": "[url \"" + repo(t, map[string]string{".dstack/templates/a.yml": good + "A\nconfiguration: {type: task}\n"}) + "\"]\n\tinsteadOf = file:///private\n",
	} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", home)
	if out, err := exec.CommandContext(t.Context(), "git", "ls-remote", "file:///private").CombinedOutput(); err != nil {
		t.Fatalf("git of the user itself: %v: %s", err, out)
	}
	r := New(t.TempDir(), time.Now, zerolog.Nop())
	if err := r.Check(t.Context(), "file:///private"); err == nil {
		t.Error("git used the configuration of the server's user")
	}
}
