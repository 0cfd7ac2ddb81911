package cli

import (
	"context"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"dstack/cli/remote"
	"dstack/cli/term"
	"dstack/protocol/jobssh"
)

// exitLost is the exit code of `exec` when the connection was lost, as ssh's.
const exitLost = 255

type execOptions struct {
	jobFlags

	interactive, tty bool
	dir              string
	env              []string
}

func (a *App) execCommand() *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use: "exec run_name [-- command ...]", Short: "Run a command in a running job", Args: names(1, -1, "run_name"),
		Long: "Run a command in a running job, as the user and in the folder of the job, with its environment. " +
			"The arguments arrive as they are given; there is no shell in between. The exit code is the command's, 128 + n " +
			"if signal n ended it, 255 if the connection was lost.\n\n" +
			"Without a command a login shell is started, on a terminal if there is one here.",
		Example:           "  dstack exec my-run -- nvidia-smi\n  dstack exec -it my-run -- python\n  tar c data | dstack exec -i my-run -- tar x",
		ValidArgsFunction: a.completeFirst(a.completeRuns(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, v := range o.env {
				if name, _, _ := strings.Cut(v, "="); name == "" {
					return argumentError(cmd, "env", "invalid value: '%s' (NAME=VALUE or NAME)", v)
				}
			}
			return a.exec(cmd.Context(), o, args[0], args[1:])
		},
	}
	set := cmd.Flags()
	set.BoolVarP(&o.interactive, "interactive", "i", false, "Pass standard input on to the command")
	set.BoolVarP(&o.tty, "tty", "t", false, "Give the command a terminal, and pass on what is typed")
	set.StringVarP(&o.dir, "workdir", "w", "", "The folder to start in, default the job's")
	metavar(set, "workdir", "DIR")
	set.StringArrayVarP(&o.env, "env", "e", nil, "Set a variable of the command, or pass on one of yours")
	metavar(set, "env", "KEY[=VALUE]")
	o.define(a, cmd, true)
	return cmd
}

func (a *App) exec(ctx context.Context, o execOptions, name string, args []string) error {
	if len(args) == 0 { // a shell, as convenient as possible
		o.interactive, o.tty = true, o.tty || term.IsTerminal(a.In) && a.TTY
	}
	o.interactive = o.interactive || o.tty // keys go there, Ctrl-C with them
	if o.tty && !term.IsTerminal(a.In) {
		return sentence("Standard input is no terminal: leave out -t")
	}
	link, err := a.linkJob(ctx, name, o.jobFlags, func() {}, func() {})
	if err != nil {
		return err
	}
	defer link.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conn, err := link.Client(ctx)
	if err != nil {
		return link.lostCause(err)
	}
	command := remote.Command{
		Program: jobssh.Program{Args: args, Dir: o.dir, Env: a.passedEnv(o.env)}, Stdout: a.Out, Stderr: a.Err,
	}
	if o.interactive {
		in := a.Input()
		defer in.Close() //nolint:errcheck // it was only read
		command.Stdin = in
	}
	finish, err := a.connectTerminal(&command, o.tty, func() { cancel(term.ErrInterrupted) })
	if err != nil {
		return err
	}
	defer finish()
	code, err := remote.Run(ctx, conn.Client, command)
	finish()
	switch {
	case remote.IsLost(err):
		a.fail("connection_failed", "The connection to run "+name+" was lost. The command may still be running there.")
		return exitError{exitLost}
	case err != nil:
		return err
	case code != 0:
		return exitError{code}
	}
	return nil
}

// connectTerminal gives the command this terminal, or else what Ctrl-C means
// without one. finish undoes it, once.
func (a *App) connectTerminal(c *remote.Command, tty bool, giveUp func()) (finish func(), err error) {
	if !tty {
		var stop func()
		c.Signals, stop = a.passInterrupts(giveUp)
		return sync.OnceFunc(stop), nil
	}
	restore, err := a.Raw()
	if err != nil {
		return nil, err
	}
	resized, stop := a.Resized()
	kind := a.env.Getenv("TERM")
	if kind == "" {
		kind = "xterm-256color"
	}
	c.Terminal = &remote.Terminal{Name: kind, Size: a.Size, Resized: resized}
	return sync.OnceFunc(func() {
		stop()
		restore()
	}), nil
}

// patientPresses is how many Ctrl-C a command gets before it is given up.
const patientPresses = 2

// passInterrupts turns Ctrl-C into a signal for the command. If that does not
// help, giveUp is called.
func (a *App) passInterrupts(giveUp func()) (signals <-chan string, stop func()) {
	pressed, release := a.Interrupts.Capture()
	out, done := make(chan string, 1), make(chan struct{})
	var passing sync.WaitGroup
	passing.Go(func() {
		for n := 1; ; n++ {
			select {
			case <-done:
				return
			case <-pressed:
			}
			if n > patientPresses {
				giveUp()
				return
			}
			select {
			case out <- "INT":
			case <-done:
				return
			}
		}
	})
	return out, func() {
		release()
		close(done)
		passing.Wait()
	}
}

// passedEnv completes variables that have no value with ours; those that we
// don't have are left out.
func (a *App) passedEnv(list []string) []string {
	var out []string
	for _, v := range list {
		if strings.Contains(v, "=") {
			out = append(out, v)
		} else if value, ok := a.env.LookupEnv(v); ok {
			out = append(out, v+"="+value)
		}
	}
	return out
}

// completeFirst completes the first argument only.
func (a *App) completeFirst(complete completer) completer {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return complete(cmd, args, word)
	}
}
