package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dstack/cli/term"
	"dstack/client"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// Exit codes of the command line. A job's own exit status may be any other.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// exitError ends a command with a code. What it had to say was said.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// unrecognizedError lists options and words that no command takes.
type unrecognizedError struct{ args []string }

func (e unrecognizedError) Error() string {
	quoted := make([]string, len(e.args))
	for i, arg := range e.args {
		quoted[i] = shellQuote(arg)
	}
	return "Unrecognized arguments: " + strings.Join(quoted, " ")
}

// usageError is a wrong use of a command's own options.
type usageError struct {
	cmd *cobra.Command
	msg string
	// prog is what the message begins with; empty means the command's path.
	prog string
}

func (e usageError) Error() string { return e.msg }

// argumentError says what is wrong with one option's value.
func argumentError(cmd *cobra.Command, flag, format string, args ...any) error {
	name, prog := "--"+flag, ""
	f := cmd.Flags().Lookup(flag)
	if f != nil && f.Shorthand != "" {
		name = "-" + f.Shorthand + "/" + name
	}
	if f != nil && f.Annotations[noteTypes] != nil { // as 0.22.5, which parses these on their own
		prog = cmd.Root().Name()
	}
	return usageError{cmd: cmd, msg: "argument " + name + ": " + fmt.Sprintf(format, args...), prog: prog}
}

// classify turns the errors of cobra and pflag into ours.
func classify(cmd *cobra.Command, err error) error {
	if missing, ok := errors.AsType[*pflag.NotExistError](err); ok {
		arg := "--" + missing.GetSpecifiedName()
		if short := missing.GetSpecifiedShortnames(); short != "" {
			arg = "-" + short
		}
		return unrecognizedError{[]string{arg}}
	}
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return argumentError(cmd, bad.GetFlag().Name, "invalid %s value: '%s'", bad.GetFlag().Value.Type(), bad.GetValue())
	}
	if short, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return argumentError(cmd, short.GetFlag().Name, "expected one argument")
	}
	if syntax, ok := errors.AsType[*pflag.InvalidSyntaxError](err); ok {
		return unrecognizedError{[]string{syntax.GetSpecifiedFlag()}}
	}
	return err
}

// report shows an error to the user and returns the exit code.
func (a *App) report(cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	if exit, ok := errors.AsType[exitError](err); ok {
		return exit.code
	}
	err = classify(cmd, err)
	if usage, ok := errors.AsType[usageError](err); ok {
		if a.jsonErrors {
			a.fail("usage", usage.msg)
			return exitUsage
		}
		a.Warn("Usage: " + usageLine(usage.cmd))
		a.Warn(cmp.Or(usage.prog, usage.cmd.CommandPath()) + ": error: " + usage.msg)
		return exitUsage
	}
	if crash, ok := errors.AsType[crashError](err); ok {
		a.log.logger.Error().Str("command", commandName(cmd)).Err(crash).Bytes("stack", crash.stack).Msg("crash")
		a.fail("internal", fmt.Sprintf("Something went wrong inside dstack (a bug). Details are in %s; please report them.", a.log.path))
		return exitFailed
	}
	switch {
	case errors.Is(err, term.ErrNoInput):
		a.fail("usage", "Standard input is closed, so the question can't be answered: pass -y to answer yes.")
		return exitUsage
	case errors.Is(err, term.ErrInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	a.fail(errorCode(err), err.Error())
	if !ofServer(cmd) {
		a.log.logger.Error().Str("command", commandName(cmd)).Err(err).Msg("command failed")
	}
	return exitFailed
}

// ofServer tells whether a command is that of a server: it has a log of its
// own, often no home to write to, and asks for its health every few seconds.
func ofServer(cmd *cobra.Command) bool {
	return cmd != nil && (cmd.Name() == "server" || ofServer(cmd.Parent()))
}

// errorCode names the kind of an error for programs: one of the server's
// codes, or one of ours.
func errorCode(err error) string {
	if answer, ok := errors.AsType[*client.APIError](err); ok {
		switch {
		case answer.Code != "":
			return answer.Code
		case answer.Status == http.StatusUnauthorized || answer.Status == http.StatusForbidden:
			return "access_denied"
		case answer.Status == http.StatusUnprocessableEntity:
			return "invalid_request"
		}
		return "error"
	}
	if _, ok := errors.AsType[*client.ConnectionError](err); ok {
		return "connection_failed"
	}
	if _, ok := errors.AsType[unrecognizedError](err); ok {
		return "usage"
	}
	if _, ok := errors.AsType[config.Errors](err); ok {
		return "invalid_configuration"
	}
	if _, ok := errors.AsType[missingError](err); ok {
		return api.CodeNotExists
	}
	return "error"
}

// fail writes an error: in red, as it is, or as JSON where the command's
// output is JSON.
func (a *App) fail(code, message string) {
	if a.jsonErrors {
		type fault struct {
			Code string `json:"code"`
			Msg  string `json:"msg"`
		}
		text, err := json.Marshal(struct {
			Error fault `json:"error"`
		}{fault{code, message}})
		if err == nil {
			a.Warn(string(text))
			return
		}
	}
	if a.errColor {
		message = "\x1b[" + string(term.Error) + "m" + message + "\x1b[0m"
	}
	a.Warn(message)
}

// warn writes a warning in yellow to standard error.
func (a *App) warn(message string) {
	if a.errColor {
		message = "\x1b[" + string(term.Warning) + "m" + message + "\x1b[0m"
	}
	a.Warn(message)
}

func commandName(cmd *cobra.Command) string {
	if cmd == nil {
		return ""
	}
	return cmd.CommandPath()
}

// shellQuote quotes a word for a POSIX shell if it needs to be.
func shellQuote(word string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%_-+=:,./"
	if word != "" && strings.Trim(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'"'"'`) + "'"
}

// shellJoin quotes words and joins them by spaces.
func shellJoin(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = shellQuote(word)
	}
	return strings.Join(quoted, " ")
}

// userError is a whole sentence for the user.
type userError string

func (e userError) Error() string { return string(e) }

// missingError is a whole sentence about something that does not exist.
type missingError string

func (e missingError) Error() string { return string(e) }

// missing makes an error that says what does not exist.
func missing(format string, args ...any) error { return missingError(fmt.Sprintf(format, args...)) }

// wantsJSONErrors says whether arguments ask for JSON, errors included.
func wantsJSONErrors(args []string) bool {
	for i, arg := range args {
		switch arg {
		case "--":
			return false
		case "--json", "--json=true", "--format=json":
			return true
		case "--format":
			if i+1 < len(args) && args[i+1] == "json" {
				return true
			}
		}
	}
	return false
}

// sentence makes an error that is shown as it is.
func sentence(format string, args ...any) error { return userError(fmt.Sprintf(format, args...)) }
