package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"dstack/cli/term"
)

// checkStatus is how a check of `doctor` ended.
type checkStatus string

const (
	checkOK   checkStatus = "ok"
	checkWarn checkStatus = "warn"
	checkFail checkStatus = "fail"
)

// check is one line of `doctor`: what was looked at, what was found and, if
// all is not well, what to do.
type check struct {
	Name    string      `json:"name"`
	Status  checkStatus `json:"status"`
	Message string      `json:"message"`
	Advice  string      `json:"advice,omitempty"`
}

func passed(name, message string) check { return check{name, checkOK, message, ""} }

func (a *App) doctorCommand() *cobra.Command {
	var (
		project string
		output  outputOptions
	)
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check this machine and the way to the server", Args: noArgs,
		Long: "Check this machine and the way to the server: configuration, server, token, project, clock, SSH, Git, Docker, disk. " +
			"Each line says what to do about what is wrong. The exit code is 1 if a check failed; warnings don't count.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.doctor(cmd.Context(), project, output.wantsJSON())
		},
	}
	a.projectFlag(cmd, &project)
	output.define(cmd.Flags())
	return cmd
}

func (a *App) doctor(ctx context.Context, project string, asJSON bool) error {
	var checks []check
	failed := false
	note := func(found ...check) {
		for _, c := range found {
			failed = failed || c.Status == checkFail
			checks = append(checks, c)
			if !asJSON {
				a.write(a.checkLine(c))
			}
		}
	}
	note(a.checkConfig(project))
	note(a.checkServer(ctx, project)...)
	note(checkSSH(ctx, a.env.Getenv), checkGit(ctx), checkDocker(ctx, a.env.Getenv), checkDisk(a.env.Home))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if asJSON {
		if err := a.printJSON(struct {
			Checks []check `json:"checks"`
		}{checks}); err != nil {
			return err
		}
	}
	if failed {
		return exitError{exitFailed}
	}
	return nil
}

// checkLine writes a check, and below it what to do.
func (a *App) checkLine(c check) string {
	style := map[checkStatus]term.Style{checkOK: term.Success, checkWarn: term.Warning, checkFail: term.Error}[c.Status]
	pad := func(s string, n int) string { return s + strings.Repeat(" ", max(n-len(s), 0)) }
	line := " " + a.Paint(style, pad(string(c.Status), 4)) + "  " + pad(c.Name, 8) + "  " + c.Message + "\n"
	if c.Advice != "" {
		line += strings.Repeat(" ", 17) + c.Advice + "\n"
	}
	return line
}
