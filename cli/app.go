// Package cli is the command line of dstack: one file a command. Commands
// talk to a server through the package client only.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

	"dstack/cli/term"
	"dstack/client"
	"dstack/protocol/version"
)

// Env is what the process gives to the command line.
type Env struct {
	// Args are the arguments without the program's name.
	Args                  []string
	Stdin, Stdout, Stderr *os.File
	Getenv                func(string) string
	LookupEnv             func(string) (string, bool)
	// Home is the folder that holds .dstack.
	Home string
	Now  func() time.Time
	// Serve runs the server until ctx ends (`dstack server`).
	Serve func(ctx context.Context, options ServerOptions) error
	// Restore and Backup work on its database (`dstack server restore`, `backup`).
	Restore func(ctx context.Context, options RestoreOptions) error
	Backup  func(ctx context.Context, file string) error
	// Health asks the server of this machine how it is (`dstack server health`).
	Health func(ctx context.Context, options HealthOptions) error
}

// App is one run of the command line.
type App struct {
	*term.Console
	env      Env
	log      *logFile
	errColor bool
	// helpFault is what was wrong with a call for help; cobra's help can't fail.
	helpFault error
	// jsonErrors says that errors are JSON, too.
	jsonErrors bool
	// project is what --project before the command's name said.
	project string
	// clients are closed at the end.
	clients []*client.Client
}

// Main runs the command line and returns the exit code. It handles SIGINT,
// SIGTERM and SIGHUP itself. Whatever goes wrong, the user sees a sentence:
// the rest is in the log file.
func Main(ctx context.Context, env Env) int {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := &App{Console: term.Open(env.Stdin, env.Stdout, env.Stderr, env.Getenv), env: env}
	out := &output{Writer: a.Out}
	a.Out, a.Interrupts = out, term.NewInterrupts(cancel)
	a.errColor = xterm.IsTerminal(int(env.Stderr.Fd())) && env.Getenv("NO_COLOR") == "" && env.Getenv("TERM") != "dumb"
	a.log = newLogFile(env.Home, env.Now, a.Warn)
	defer a.handleSignals(cancel)()
	code := a.run(ctx)
	if lost := out.fault(); lost != nil && code == exitOK {
		a.fail("error", "Couldn't write to standard output: "+lost.Error())
		code = exitFailed
	}
	if err := a.log.close(); err != nil {
		a.Warn(err.Error())
	}
	return code
}

// handleSignals passes signals on until the returned function is called.
func (a *App) handleSignals(cancel context.CancelCauseFunc) (stop func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range signals {
			if s == os.Interrupt {
				a.Interrupts.Press()
			} else {
				cancel(signalError{s})
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}
}

// signalError is the cause of a command that a signal ended.
type signalError struct{ signal os.Signal }

func (e signalError) Error() string { return "ended by signal: " + e.signal.String() }

func (a *App) run(ctx context.Context) int {
	defer func() {
		for _, c := range a.clients {
			c.Close()
		}
	}()
	root := a.root() //nolint:contextcheck // cobra hands the context to each command
	args := expandPrefixes(root, a.env.Args)
	a.jsonErrors = wantsJSONErrors(args)
	root.SetArgs(args)
	root.SetContext(ctx)
	var cmd *cobra.Command
	err := guard(func() (err error) {
		cmd, err = root.ExecuteC()
		return err
	})
	if cause := context.Cause(ctx); err != nil && cause != nil && ctx.Err() != nil {
		err = a.interruption(cmd, err, cause)
	}
	if err == nil {
		err = a.helpFault
	}
	return a.report(cmd, err)
}

// crashError is a panic that became an error.
type crashError struct {
	value any
	stack []byte
}

func (e crashError) Error() string { return fmt.Sprintf("crash: %v", e.value) }

// guard turns a panic into an error, so that no user ever sees a dump.
func guard(run func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = crashError{value, debug.Stack()}
		}
	}()
	return run()
}

// interruption decides what a command that was cut short reports: Ctrl-C
// ends views and followers quietly, other commands with 130.
func (a *App) interruption(cmd *cobra.Command, err, cause error) error {
	if s, ok := errors.AsType[signalError](cause); ok {
		if n, ok := s.signal.(syscall.Signal); ok {
			return exitError{128 + int(n)}
		}
	}
	if ended, ok := errors.AsType[exitError](err); ok {
		return ended
	}
	if cmd != nil && cmd.Annotations["interrupt"] == "quiet" {
		return nil
	}
	return exitError{exitInterrupted}
}

// quietly marks a command that Ctrl-C ends with exit code 0.
func quietly(cmd *cobra.Command) *cobra.Command {
	cmd.Annotations = map[string]string{"interrupt": "quiet"}
	return cmd
}

const rootLong = `dstack runs tasks on your own machines and on clouds. Describe what you want in a .dstack.yml file and apply it.`

// root is the whole command tree. It is built anew for each run and does no
// work of its own, so that `dstack --version` stays quick.
func (a *App) root() *cobra.Command {
	root := &cobra.Command{
		Use: "dstack COMMAND ...", Short: "Run tasks on your own machines and on clouds.", Long: rootLong,
		SilenceErrors: true, SilenceUsage: true, TraverseChildren: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              subCommand,
		Example:           "Run `dstack COMMAND -h` for the options of a command.",
	}
	showVersion := root.Flags().BoolP("version", "v", false, "Show the version of this build")
	root.Flags().StringVar(&a.project, "project", "", "The project to use")
	hide(root.Flags(), "project")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *showVersion {
			a.Print(version.Version)
			return nil
		}
		a.help(cmd, nil)
		return nil
	}
	root.AddCommand(
		a.applyCommand(), a.attachCommand(), a.configCommand(), a.cpCommand(), a.deleteCommand(), a.eventCommand(),
		a.execCommand(), a.exportCommand(), a.fleetCommand(), a.importCommand(), a.gatewayCommand(),
		a.initCommand(), a.offerCommand(), a.loginCommand(), a.logsCommand(),
		a.metricsCommand(), a.portForwardCommand(), a.presetCommand(), a.projectCommand(), a.psCommand(), a.runCommand(),
		a.secretCommand(), a.serverCommand(), a.stopCommand(), a.topCommand(), a.versionCommand(), a.volumeCommand(), a.whyCommand(),
		a.completionCommand(), a.doctorCommand(), a.sshRelayCommand(),
	)
	root.SetHelpCommand(&cobra.Command{Use: "help", Hidden: true, RunE: func(cmd *cobra.Command, _ []string) error {
		a.help(cmd.Root(), nil)
		return nil
	}})
	root.SetHelpFunc(a.help)
	root.SetUsageFunc(func(*cobra.Command) error { return nil })
	for _, cmd := range allCommands(root) {
		cmd.Flags().SortFlags = false
		cmd.PersistentFlags().SortFlags = false
		cmd.DisableFlagsInUseLine = true
		addHelpFlag(cmd)
	}
	return root
}

// addHelpFlag defines -h before cobra does, with our wording.
func addHelpFlag(cmd *cobra.Command) {
	if cmd.Flags().Lookup("help") == nil {
		cmd.Flags().BoolP("help", "h", false, "Show this help message and exit")
	}
}

func allCommands(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		all = append(all, allCommands(sub)...)
	}
	return all
}

func (a *App) help(cmd *cobra.Command, args []string) {
	configType := ""
	if cmd.Name() == "apply" {
		configType = helpType(args)
	}
	if configType != "" && !slices.Contains(configurationTypes, configType) {
		a.helpFault = argumentError(cmd, "help", "invalid ApplyConfigurationType value: '%s'", configType)
		return
	}
	_, _ = fmt.Fprint(a.Out, a.helpPage(cmd, configType))
}
