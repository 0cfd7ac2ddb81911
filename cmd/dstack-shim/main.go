// Command dstack-shim is the daemon of one host: see [dstack/shim], and
// [dstack/protocol/hostapi] for its command line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"

	"github.com/rs/zerolog"

	"dstack/protocol/hostapi"
	"dstack/protocol/version"
	"dstack/shim/host"
	"dstack/shim/metadata"
	"dstack/shim/process"
)

const usage = `usage: dstack-shim serve     [--home DIR] [--agent FILE] [--runtime auto|docker|process] [--cpus N] [--cloud TYPE [--spot]]
       dstack-shim supervise [--home DIR] [--agent FILE] [--runtime auto|docker|process] [--cpus N]
       dstack-shim dial      [--home DIR]
       dstack-shim uninstall [--home DIR]
       dstack-shim version   [--json]

The dstack server installs and starts this program on the hosts of a fleet.
`

func main() {
	// A host's memory is for its jobs.
	debug.SetGCPercent(40)
	debug.SetMemoryLimit(24 << 20)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the flags of all commands.
type options struct {
	home, agent, runtime string
	cpus                 int
	json, supervised     bool
	// cloud is the backend that the machine is rented from, empty for none;
	// spot says that it may take it back.
	cloud string
	spot  bool
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("dstack-shim", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { complain(stderr, usage) }
	f.StringVar(&o.home, "home", env("DSTACK_SHIM_HOME", hostapi.Home), "the shim's `folder`")
	f.StringVar(&o.agent, "agent", env("DSTACK_SHIM_AGENT", defaultAgent()), "the agent's `binary`")
	f.StringVar(&o.runtime, "runtime", env("DSTACK_SHIM_RUNTIME", "auto"), "docker, process, or auto: docker where there is an engine")
	cpus, err := strconv.Atoi(env("DSTACK_SHIM_CPUS", "0"))
	if err != nil || cpus < 0 {
		return o, fmt.Errorf("DSTACK_SHIM_CPUS is a number of CPUs, not %q", os.Getenv("DSTACK_SHIM_CPUS"))
	}
	f.IntVar(&o.cpus, "cpus", cpus, "how many CPUs jobs share; 0: all that the host has")
	f.StringVar(&o.cloud, "cloud", os.Getenv(hostapi.EnvCloud), "the type of the `backend` that the machine is rented from")
	f.BoolVar(&o.spot, "spot", os.Getenv(hostapi.EnvSpot) == "true", "the cloud may take the machine back")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.BoolVar(&o.supervised, "supervised", false, "a supervisor runs this")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		complain(stderr, usage)
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	home, err := filepath.Abs(o.home)
	if err != nil {
		return o, fmt.Errorf("find home: %w", err)
	}
	o.home = home
	return o, nil
}

// complain writes to stderr; where that fails there is nobody left to tell.
func complain(stderr io.Writer, text string) { _, _ = io.WriteString(stderr, text) }

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// defaultAgent is the agent of this version, or the one beside this binary.
func defaultAgent() string {
	installed := filepath.Join(hostapi.AgentDir, version.Version, hostapi.AgentName)
	self, err := os.Executable()
	if err != nil {
		return installed
	}
	if beside := filepath.Join(filepath.Dir(self), hostapi.AgentName); isFile(beside) && !isFile(installed) {
		return beside
	}
	return installed
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func run(ctx context.Context, args []string, in io.Reader, out, stderr io.Writer) int {
	code, err := dispatch(ctx, args, in, out, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		complain(stderr, fmt.Sprintf("dstack-shim: %v\n", err))
		return max(code, 1)
	}
	return code
}

func dispatch(ctx context.Context, args []string, in io.Reader, out, stderr io.Writer) (int, error) {
	if len(args) == 0 {
		complain(stderr, usage)
		return 2, errors.New("a command is missing")
	}
	// The launcher of a process is called by serve only, with its own arguments.
	if args[0] == "exec" && len(args) >= 5 {
		return 1, launch(args[1:])
	}
	// So is the one that looks what a control group can reach.
	if args[0] == "reach" && len(args) == 3 {
		return 0, metadata.Reach(ctx, args[1], args[2])
	}
	o, err := parse(args[1:], stderr)
	if err != nil {
		return 2, err
	}
	log := zerolog.New(stderr).With().Timestamp().Logger().Level(level())
	switch args[0] {
	case "serve":
		return serve(ctx, o, log)
	case "supervise":
		return 0, supervise(ctx, o, log)
	case "dial":
		return 0, dial(ctx, o.home, in, out)
	case "uninstall":
		return 0, uninstall(ctx, o, log)
	case "version", "--version":
		return 0, printVersion(o.json, out)
	case "help", "-h", "--help":
		_, err := io.WriteString(out, usage)
		return 0, err
	}
	complain(stderr, usage)
	return 2, fmt.Errorf("unknown command %q", args[0])
}

func level() zerolog.Level {
	l, err := zerolog.ParseLevel(env("DSTACK_SHIM_LOG_LEVEL", "info"))
	if err != nil {
		return zerolog.InfoLevel
	}
	return l
}

func launch(args []string) error {
	var owner int
	if _, err := fmt.Sscan(args[2], &owner); err != nil {
		return fmt.Errorf("read user of task: %w", err)
	}
	return process.Exec(args[0], args[1], owner, args[3], args[4:])
}

func supervise(ctx context.Context, o options, log zerolog.Logger) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	args := []string{"--home", o.home, "--agent", o.agent, "--runtime", o.runtime, "--cpus", strconv.Itoa(o.cpus)}
	return host.Supervise(ctx, o.home, self, args, log)
}
