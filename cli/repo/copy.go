package repo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// WorkingCopy is a Git repo on this machine whose branch follows a remote one.
type WorkingCopy struct {
	// Remote is the URL as it is configured.
	Remote string
	// Branch is the name of the remote branch, Hash its commit as it is known
	// here.
	Branch, Hash string
	// Name and Email are those of the user's commits; empty if not configured.
	Name, Email string

	git git
}

// useFiles is what users do who have no repo.
const useFiles = "\nUse `files` to mount an arbitrary directory: https://dstack.ai/docs/concepts/tasks/#files"

// Open reads the working copy whose root is dir. env is the environment of
// git. The error is for the user.
func Open(ctx context.Context, dir string, env []string) (WorkingCopy, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return WorkingCopy{}, fmt.Errorf("find %s: %w", dir, err)
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return WorkingCopy{}, fault("Path does not exist: %s", dir)
	case err != nil:
		return WorkingCopy{}, fmt.Errorf("read %s: %w", dir, err)
	case !info.IsDir():
		return WorkingCopy{}, fault("Path is not a directory: %s", dir)
	}
	w := WorkingCopy{git: git{dir: dir, env: env}}
	root, err := w.git.line(ctx, "rev-parse", "--show-toplevel")
	if err != nil && !failed(err) {
		return WorkingCopy{}, err
	}
	if failed(err) && strings.Contains(err.Error(), "dubious ownership") {
		return WorkingCopy{}, fault("Git does not trust %s, which belongs to another user. Allow it with: git config --global --add safe.directory %s", dir, dir)
	}
	if failed(err) || !sameFile(root, dir) {
		return WorkingCopy{}, fault("Git repo not found: %s%s", dir, useFiles)
	}
	if err := w.readBranch(ctx); err != nil {
		return WorkingCopy{}, err
	}
	w.Name, w.Email = w.config(ctx, "user.name"), w.config(ctx, "user.email")
	return w, nil
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// config is one setting; empty if it is not set.
func (w *WorkingCopy) config(ctx context.Context, name string) string {
	value, err := w.git.line(ctx, "config", "--get", name)
	if err != nil {
		return ""
	}
	return value
}

// readBranch finds the remote branch that the current one follows.
func (w *WorkingCopy) readBranch(ctx context.Context) error {
	local, err := w.git.line(ctx, "symbolic-ref", "--quiet", "--short", "HEAD")
	if failed(err) {
		return fault("Git repo in 'detached HEAD' state: %s\nCheck out to a branch", w.git.dir)
	}
	if err != nil {
		return err
	}
	remote := w.config(ctx, "branch."+local+".remote")
	branch, isBranch := strings.CutPrefix(w.config(ctx, "branch."+local+".merge"), "refs/heads/")
	if remote == "" || remote == "." || !isBranch {
		return fault("No remote branch is configured")
	}
	w.Branch = branch
	w.Remote = w.config(ctx, "remote."+remote+".url")
	if w.Remote == "" { // the branch may name a URL instead of a remote
		w.Remote = remote
	}
	w.Hash, err = w.git.line(ctx, "rev-parse", "--verify", "--quiet", local+"@{upstream}^{commit}")
	if failed(err) {
		return fault("The remote branch %s/%s is not known here yet. Push the branch, or run: git fetch %s", remote, branch, remote)
	}
	return err
}

// addBatch is how many untracked files one git process gets.
const addBatch = 500

// Diff writes how the working copy differs from the commit Hash, with commits
// that were not pushed and untracked files, for `git apply`. It gives the
// SHA-256 of what it wrote in hex, and how many bytes that were.
func (w *WorkingCopy) Diff(ctx context.Context, to io.Writer) (hash string, size int64, err error) {
	index, err := w.copyIndex(ctx)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(filepath.Dir(index))) }()
	g := w.git
	g.env = append(append([]string(nil), g.env...), "GIT_INDEX_FILE="+index)
	if err := addUntracked(ctx, g); err != nil {
		return "", 0, err
	}
	sum := sha256.New()
	count := &counter{w: io.MultiWriter(to, sum)}
	// The user's configuration must not change the form of the diff.
	err = g.run(ctx, count, "-c", "core.quotePath=true", "-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false",
		"-c", "diff.suppressBlankEmpty=false", "-c", "diff.orderFile=/dev/null",
		"diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-relative", "--src-prefix=a/", "--dst-prefix=b/",
		"--unified=3", "--inter-hunk-context=0", "--submodule=short", "--ignore-submodules=dirty", w.Hash, "--")
	return hex.EncodeToString(sum.Sum(nil)), count.n, err
}

// copyIndex copies Git's index, so that untracked files can be added to the
// copy alone.
func (w *WorkingCopy) copyIndex(ctx context.Context) (string, error) {
	path, err := w.git.line(ctx, "rev-parse", "--git-path", "index")
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(w.git.dir, path)
	}
	dir, err := os.MkdirTemp("", "dstack-index-")
	if err != nil {
		return "", fmt.Errorf("copy Git's index: %w", err)
	}
	to := filepath.Join(dir, "index")
	if err := copyFile(path, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", errors.Join(fmt.Errorf("copy Git's index: %w", err), os.RemoveAll(dir))
	}
	return to, nil
}

// copyFile keeps the date: by it Git knows which entries of its index it
// cannot trust, because their files changed in the second in which the index
// was written.
func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	info, statErr := in.Stat()
	if err := errors.Join(err, out.Close(), statErr); err != nil {
		return err
	}
	return os.Chtimes(to, info.ModTime(), info.ModTime())
}

// addUntracked makes git diff show the untracked files that are not ignored.
func addUntracked(ctx context.Context, g git) error {
	var names strings.Builder
	if err := g.run(ctx, &names, "ls-files", "--others", "--exclude-standard", "-z"); err != nil {
		return err
	}
	batch := []string{}
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		args := append([]string{"--literal-pathspecs", "add", "--intent-to-add", "--"}, batch...)
		batch = batch[:0]
		return g.run(ctx, nil, args...)
	}
	for name := range strings.SplitSeq(names.String(), "\x00") {
		if name == "" || strings.HasSuffix(name, "/") {
			continue // the last one is empty; a folder is another repo in this one
		}
		if batch = append(batch, name); len(batch) == addBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
