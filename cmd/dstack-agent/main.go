// Command dstack-agent runs one job. The shim of dstack starts it, in a
// container as `dstack-agent init`, on a plain host as `dstack-agent run`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"dstack/agent"
	"dstack/agent/devenv"
	"dstack/agent/pid1"
	"dstack/agent/repo"
	"dstack/agent/sftpserver"
	"dstack/protocol/jobapi"
)

const usage = `usage:
  dstack-agent init [--dir DIR]   process 1 of a container: starts "run" and reaps
  dstack-agent run [--dir DIR]    runs the job described in DIR/job.json
dstack-shim starts this program; there is no need to start it by hand`

func main() {
	switch {
	case len(os.Args) >= 2 && os.Args[1] == sftpserver.Command:
		debug.SetMemoryLimit(64 << 20) // short-lived, and its users wait
	case len(os.Args) >= 2 && os.Args[1] == repo.CloneCommand:
		debug.SetGCPercent(50)
	default:
		saveMemory(0)
	}
	os.Exit(run(context.Background(), os.Args, os.Stderr))
}

// saveMemory keeps this process small, for the job needs the memory more than
// we do; what is sent to people who are logged in shall be sent fast, though.
func saveMemory(logins int) {
	if logins == 0 {
		debug.SetGCPercent(50)
		debug.SetMemoryLimit(10 << 20)
		return
	}
	debug.SetGCPercent(100)
	debug.SetMemoryLimit(64<<20 + int64(logins)<<20)
}

// run executes the command line args and returns the exit code.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	code, err := dispatch(ctx, args, stderr)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "dstack-agent: %v\n", err) // nowhere to say that it failed
		return max(code, 1)
	}
	return code
}

func dispatch(ctx context.Context, args []string, stderr io.Writer) (int, error) {
	if len(args) < 2 {
		return 2, errors.New("a command is missing; " + usage)
	}
	// What the agent and git start.
	if code, known, err := repo.Command(ctx, args[1:], os.Stdin, os.Stdout, stderr); known {
		return code, err
	}
	if code, known, err := devenv.Run(ctx, args[1:], os.Stdout); known {
		return code, err
	}
	if args[1] == sftpserver.Command {
		return 0, sftpserver.Serve(os.Stdin, os.Stdout)
	}
	flags := flag.NewFlagSet(args[1], flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("dir", jobapi.Dir, "the task's `folder`")
	if err := flags.Parse(args[2:]); err != nil {
		return 2, err
	}
	folder, err := filepath.Abs(*dir)
	if err != nil {
		return 1, err
	}
	switch args[1] {
	case "run":
		config := agent.Default(folder)
		config.Connected = saveMemory
		return agent.Run(ctx, config)
	case "init":
		self, err := os.Executable()
		if err != nil {
			return 1, fmt.Errorf("find this program: %w", err)
		}
		return pid1.Run(ctx, self, []string{args[0], "run", "--dir", folder})
	}
	return 2, fmt.Errorf("unknown command %q; %s", args[1], usage)
}
