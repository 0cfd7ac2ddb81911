//go:build e2e

// Package interop drives our server with the unchanged Python client 0.22.5,
// its command line and its SDK, on a lab host. What it prints is held against
// the transcripts of the spec (cli-transcripts.md), as patterns.
// test/ci/python.sh installs the client.
package interop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dstack/test/lab"
)

// step is one command and what it has to print; patterns are of lines, in
// their order, each somewhere after the one before.
type step struct {
	args string
	// exit is the status, if it is not 0.
	exit int
	want []string
	// until repeats the command until it prints what it has to.
	until bool
	// stderr looks there.
	stderr bool
}

// user is somebody with the Python client in a folder of his own.
type user struct {
	s    *lab.Server
	venv string
	dir  string
}

func newUser(t *testing.T, s *lab.Server) *user {
	t.Helper()
	return &user{s: s, venv: filepath.Join(lab.Home, "python-0.22.5"), dir: t.TempDir()}
}

// write puts a file into the user's folder.
func (u *user) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(u.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run takes the steps one after another.
func (u *user) run(t *testing.T, steps []step) {
	t.Helper()
	for _, st := range steps {
		if st.until {
			var last error
			err := lab.Wait(t.Context(), 90*time.Second, "dstack "+st.args, func(ctx context.Context) error {
				last = u.try(ctx, st)
				return last
			})
			if err != nil {
				t.Errorf("%v\n%v", err, last)
			}
			continue
		}
		if err := u.try(t.Context(), st); err != nil {
			t.Error(err)
		}
	}
}

var errPrinted = errors.New("does not print what 0.22.5 prints")

// try runs a step once.
func (u *user) try(ctx context.Context, st step) error {
	args := strings.Fields(st.args)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "URL", u.s.URL)
	}
	got, err := u.s.Python(ctx, u.dir, u.venv, args...)
	if err != nil {
		return err
	}
	if got.Exit != st.exit {
		return fmt.Errorf("dstack %s: exit %d, want %d:\n%s%s: %w", st.args, got.Exit, st.exit, got.Stdout, got.Stderr, errPrinted)
	}
	text := got.Stdout
	if st.stderr {
		text = got.Stderr
	}
	rest := text
	for _, pattern := range st.want {
		at := regexp.MustCompile(`(?m)^ *` + pattern + `\s*$`).FindStringIndex(rest)
		if at == nil {
			return fmt.Errorf("dstack %s: no line %q in its place in\n%s%s: %w", st.args, pattern, text, got.Stderr, errPrinted)
		}
		rest = rest[at[1]:]
	}
	return nil
}
