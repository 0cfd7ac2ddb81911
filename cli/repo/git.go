package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// Error is a sentence for the user about a repo.
type Error string

func (e Error) Error() string { return string(e) }

func fault(format string, args ...any) error { return Error(fmt.Sprintf(format, args...)) }

// errNoGit says that there is no git to ask.
const errNoGit = Error("git is not installed on this machine, and repos need it. Install git, or mount the directory with `files`.")

// git runs the user's git in a folder.
type git struct {
	dir string
	env []string
}

// run runs git with its output going to w, which may be nil.
func (g git) run(ctx context.Context, w io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Env, cmd.Stdout = g.dir, g.env, w
	var said bytes.Buffer
	cmd.Stderr = &said
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return errNoGit
	}
	return fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(said.String()))
}

// line is the output of git without the space around it.
func (g git) line(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	err := g.run(ctx, &out, args...)
	return strings.TrimSpace(out.String()), err
}

// failed says whether git ran and said no.
func failed(err error) bool {
	_, ok := errors.AsType[*exec.ExitError](err)
	return ok
}
