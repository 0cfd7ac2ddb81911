// Package devenv is the job of a development environment: it brings the
// server of the user's editor, runs what the user wants done first, tells how
// to get in, and waits. It needs no program of the image, so that one stays up
// that has neither tar nor tail, nor a shell if nothing is to be done first.
package devenv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"dstack/protocol/jobapi"
	"dstack/protocol/words"
)

// The commands of the agent's program: Command begins an environment, and
// waitCommand, which the shell becomes in the end, keeps it up.
const (
	Command     = "dev-environment"
	waitCommand = "dev-environment-wait"
)

// Exit statuses of a shell that could not be started, as shells use them.
const (
	cannotExecute = 126
	notFound      = 127
)

// Wrap is the command of a development environment: self, the agent's program,
// does around the shell's commands what d says.
func Wrap(self string, d jobapi.DevEnvironment, commands []string) ([]string, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode development environment: %w", err)
	}
	return append([]string{self, Command, string(text)}, commands...), nil
}

// Run executes the command line args, if it is one of ours; its exit code
// and error are then those of this process.
func Run(ctx context.Context, args []string, out io.Writer) (code int, known bool, err error) {
	if args[0] != Command && args[0] != waitCommand {
		return 0, false, nil
	}
	var d jobapi.DevEnvironment
	if len(args) < 2 {
		return 2, true, errors.New("a development environment starts with its description")
	}
	if err := json.Unmarshal([]byte(args[1]), &d); err != nil {
		return 2, true, fmt.Errorf("decode development environment: %w", err)
	}
	if args[0] == waitCommand {
		code, err = wait(ctx, d, out)
		return code, true, err
	}
	code, err = begin(ctx, d, args[2:], out)
	return code, true, err
}

// begin becomes the shell that does what is to be done first. It returns only
// if there is none.
func begin(ctx context.Context, d jobapi.DevEnvironment, shell []string, out io.Writer) (int, error) {
	if d.Server != nil {
		newInstaller(out).install(ctx, d.Editor, *d.Server)
	}
	if len(shell) != 4 {
		return 2, fmt.Errorf("a development environment needs a shell with its commands, not %d words", len(shell))
	}
	if _, err := os.Stat(shell[0]); err != nil && !d.NeedsShell { //nolint:gosec // the user's own choice
		return wait(ctx, d, out)
	} else if err != nil {
		return notFound, fmt.Errorf("`init` needs %s, which is not in the image: take it out, choose another `shell`, or another image", shell[0])
	}
	self, err := os.Executable()
	if err != nil {
		return 1, fmt.Errorf("find this program: %w", err)
	}
	d.Server = nil
	text, err := json.Marshal(d)
	if err != nil {
		return 1, fmt.Errorf("encode development environment: %w", err)
	}
	script := shell[3] + " && exec " + words.Quote(self) + " " + waitCommand + " " + words.Quote(string(text))
	err = syscall.Exec(shell[0], []string{shell[0], shell[1], shell[2], script}, os.Environ()) //nolint:gosec // as above
	return cannotExecute, fmt.Errorf("start %s: %w", shell[0], err)
}

// wait tells the user how to get in, and stays until a signal comes.
func wait(ctx context.Context, d jobapi.DevEnvironment, out io.Writer) (int, error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	defer signal.Stop(signals)
	if _, err := io.WriteString(out, readme(d, os.Getenv("DSTACK_WORKING_DIR"))); err != nil {
		return 1, fmt.Errorf("say how to connect: %w", err)
	}
	select {
	case s := <-signals:
		if n, ok := s.(syscall.Signal); ok {
			return 128 + int(n), nil
		}
	case <-ctx.Done():
	}
	return 1, nil
}

// readme is the end of the log (spec: job-execution.md 7, cli.md 13).
func readme(d jobapi.DevEnvironment, folder string) string {
	var b strings.Builder
	if d.Editor != "" {
		fmt.Fprintf(&b, "To open in %s, use link below:\n\n  %s%s\n\n", d.Editor, d.Link, folder)
	}
	fmt.Fprintf(&b, "To connect via SSH, use: `ssh %s`\n\nTo exit, press Ctrl+C.", d.Host)
	return b.String()
}
