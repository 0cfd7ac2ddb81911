package cli

import (
	"context"
	"errors"
	"strings"

	"dstack/cli/term"
)

// interrupted answers Ctrl-C: with -y it detaches, otherwise the user
// chooses. A second Ctrl-C leaves `dstack attach`. While the run is being
// stopped it kills the jobs.
func (f *follower) interrupted(ctx context.Context) error {
	name := runName(f.run)
	f.live.Clear()
	f.endLine()
	if f.stopping {
		return f.stop(ctx, true)
	}
	detached := func() error {
		f.a.Printf("Detached. The run %s goes on; stop it with: dstack stop %s", name, name)
		return exitError{exitOK}
	}
	if f.attach.asked {
		detached = func() error {
			f.a.Print("Detached")
			return exitError{exitOK}
		}
	}
	if f.leave {
		return detached()
	}
	for {
		answer, err := f.a.Ask(ctx, "Detach from the run "+name+", stop it, or abort it? [d/s/a]: ")
		switch {
		case errors.Is(err, term.ErrNoInput):
			return detached()
		case errors.Is(err, term.ErrInterrupted) && f.attach.asked:
			return detached()
		case errors.Is(err, term.ErrInterrupted):
			f.a.Printf("Cancelled by user. The run %s goes on; stop it with: dstack stop %s", name, name)
			return exitError{exitFailed}
		case err != nil:
			return err
		}
		switch strings.ToLower(answer) {
		case "d", "detach", "n", "no":
			return detached()
		case "s", "stop", "y", "yes":
			return f.stop(ctx, false)
		case "a", "abort":
			return f.stop(ctx, true)
		}
		f.a.Print("Please enter d (detach), s (stop) or a (abort)")
	}
}

func (f *follower) stop(ctx context.Context, abort bool) error {
	if err := f.s.StopRuns(ctx, []string{runName(f.run)}, abort); err != nil {
		return err
	}
	f.stopping, f.aborting = true, f.aborting || abort
	switch {
	case abort:
		f.a.Print("Aborting...")
	default:
		f.a.Print("Stopping...")
	}
	return nil
}
