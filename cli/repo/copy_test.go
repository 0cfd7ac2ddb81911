package repo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dstack/test/gitserver"
)

// clones makes a remote repo with one commit and two clones of it.
func clones(t *testing.T) (remote, work, fresh string) {
	t.Helper()
	top := t.TempDir()
	remote, work, fresh = filepath.Join(top, "remote.git"), filepath.Join(top, "work"), filepath.Join(top, "fresh")
	gitserver.Git(t, top, "init", "-q", "--bare", remote)
	gitserver.Git(t, top, "clone", "-q", remote, work)
	gitserver.Commit(t, work, map[string]string{"f": "1\n", "sub/g": "one\ntwo\n", "gone": "x\n", "bin": "\x00\x01\xff"})
	gitserver.Git(t, work, "push", "-q", "-u", "origin", "HEAD:main")
	gitserver.Git(t, work, "config", "push.default", "upstream")
	gitserver.Git(t, top, "clone", "-q", "-b", "main", remote, fresh)
	return remote, work, fresh
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestWorkingCopy(t *testing.T) {
	t.Parallel()
	remote, work, fresh := clones(t)
	pushed := gitserver.Git(t, work, "rev-parse", "HEAD")
	gitserver.Git(t, work, "config", "user.name", "Me")
	// Settings that change diffs for people must not change ours.
	for name, value := range map[string]string{"diff.noprefix": "true", "color.ui": "always", "diff.external": "false", "diff.mnemonicPrefix": "true", "core.quotePath": "false"} {
		gitserver.Git(t, work, "config", name, value)
	}
	gitserver.Commit(t, work, map[string]string{"f": "1\n2\n"}) // not pushed
	put(t, filepath.Join(work, "sub/g"), "one\nthree\n")
	put(t, filepath.Join(work, "bin"), "\x00\x02\xfe")
	put(t, filepath.Join(work, ".gitignore"), "ignored\n")
	put(t, filepath.Join(work, "ignored"), "no")
	put(t, filepath.Join(work, "-new ü/:(a) b\tc"), "new")
	put(t, filepath.Join(work, "run.sh"), "#!/bin/sh\n")
	put(t, filepath.Join(work, "newbin"), strings.Repeat("\x00\xff", 500))
	put(t, filepath.Join(work, "empty"), "")
	put(t, filepath.Join(work, "staged"), "s\n")
	gitserver.Git(t, work, "add", "staged")
	gitserver.Git(t, work, "rm", "-q", "gone")
	if err := os.Chmod(filepath.Join(work, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("f", filepath.Join(work, "link")); err != nil {
		t.Fatal(err)
	}
	before := gitserver.Git(t, work, "status", "--porcelain")

	w, err := Open(t.Context(), work, gitserver.Env())
	if err != nil {
		t.Fatal(err)
	}
	if w.Remote != remote || w.Branch != "main" || w.Hash != pushed || w.Name != "Me" || w.Email != "" {
		t.Errorf("working copy %+v", w)
	}
	var diff bytes.Buffer
	hash, size, err := w.Diff(t.Context(), &diff)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(diff.Bytes()); hash != hex.EncodeToString(sum[:]) || size != int64(diff.Len()) {
		t.Errorf("hash %s, size %d of %d bytes", hash, size, diff.Len())
	}
	if after := gitserver.Git(t, work, "status", "--porcelain"); after != before {
		t.Errorf("the working copy was changed from\n%s\nto\n%s", before, after)
	}
	apply := exec.Command("git", "apply", "--binary", "-")
	apply.Dir, apply.Env, apply.Stdin = fresh, gitserver.Env(), &diff
	if out, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command("diff", "-r", "--no-dereference", "--exclude=.git", "--exclude=ignored", work, fresh).CombinedOutput(); err != nil {
		t.Errorf("after the diff: %s", out)
	}
	if info, err := os.Stat(filepath.Join(fresh, "run.sh")); err != nil || info.Mode().Perm()&0o100 == 0 {
		t.Errorf("run.sh: %v, %v", info, err)
	}
}

func TestNoDiff(t *testing.T) {
	t.Parallel()
	_, work, _ := clones(t)
	w, err := Open(t.Context(), work, gitserver.Env())
	if err != nil {
		t.Fatal(err)
	}
	if _, size, err := w.Diff(t.Context(), &bytes.Buffer{}); err != nil || size != 0 {
		t.Errorf("size %d, %v", size, err)
	}
}

// A change in the second of the commit that keeps the size is found, too.
func TestQuickChange(t *testing.T) {
	t.Parallel()
	_, work, _ := clones(t)
	for _, text := range []string{"a\n", "b\n", "c\n"} {
		gitserver.Commit(t, work, map[string]string{"quick": "1\n" + text})
		gitserver.Git(t, work, "push", "-q")
		put(t, filepath.Join(work, "quick"), "2\n"+text)
		w, err := Open(t.Context(), work, gitserver.Env())
		if err != nil {
			t.Fatal(err)
		}
		var diff bytes.Buffer
		if _, _, err := w.Diff(t.Context(), &diff); err != nil || !strings.Contains(diff.String(), "+2\n") {
			t.Errorf("diff %q, %v", diff.String(), err)
		}
	}
}

// The texts are those of the client 0.22.5, where it has one.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	_, work, _ := clones(t)
	top := t.TempDir()
	put(t, filepath.Join(top, "file"), "")
	put(t, filepath.Join(work, "below/x"), "")
	local := filepath.Join(top, "local")
	gitserver.Git(t, top, "init", "-q", local)
	unknown := filepath.Join(top, "unknown")
	gitserver.Git(t, top, "init", "-q", unknown)
	for name, value := range map[string]string{"branch.main.remote": "origin", "branch.main.merge": "refs/heads/main", "remote.origin.url": "https://h/a"} {
		gitserver.Git(t, unknown, "config", name, value)
	}
	for dir, want := range map[string]string{
		filepath.Join(top, "none"):   "Path does not exist: " + filepath.Join(top, "none"),
		filepath.Join(top, "file"):   "Path is not a directory: " + filepath.Join(top, "file"),
		top:                          "Git repo not found: " + top + useFiles,
		filepath.Join(work, "below"): "Git repo not found: " + filepath.Join(work, "below") + useFiles,
		local:                        "No remote branch is configured",
		unknown:                      "The remote branch origin/main is not known here yet. Push the branch, or run: git fetch origin",
	} {
		if _, err := Open(t.Context(), dir, gitserver.Env()); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", dir, err, want)
		}
	}
	gitserver.Git(t, work, "checkout", "-q", "--detach")
	if _, err := Open(t.Context(), work, gitserver.Env()); err == nil || err.Error() != "Git repo in 'detached HEAD' state: "+work+"\nCheck out to a branch" {
		t.Error(err)
	}
}
