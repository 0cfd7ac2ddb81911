package cli

import (
	"context"
	"errors"

	"dstack/cli/term"
)

// confirm asks a yes/no question. Ctrl-C ends the command with exit code 1.
func (a *App) confirm(ctx context.Context, question string) (bool, error) {
	ok, err := a.Confirm(ctx, question)
	if errors.Is(err, term.ErrInterrupted) {
		a.Print("Cancelled by user")
		return false, exitError{exitFailed}
	}
	return ok, err
}

// confirmOrExit asks and ends the command with exit code 0 if the answer is no.
func (a *App) confirmOrExit(ctx context.Context, question string) error {
	ok, err := a.confirm(ctx, question)
	if err != nil {
		return err
	}
	if !ok {
		a.Print("\nExiting...")
		return exitError{exitOK}
	}
	return nil
}
