package cli

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"dstack/cli/render"
	"dstack/cli/term"
	"dstack/protocol/api"
)

func (a *App) secretCommand() *cobra.Command {
	var o listOptions
	cmd := listCommand(a, &o, listing[api.Secret]{
		name: "secret", subs: "list,get,set,delete", short: "Manage secrets", key: "secrets", unwatched: true,
		list:  func(ctx context.Context, s *session) ([]api.Secret, error) { return s.ListSecrets(ctx) },
		table: func(items []api.Secret, _ string, _ bool) term.Table { return render.SecretsTable(items) },
	})
	cmd.AddCommand(a.secretGetCommand(&o), a.secretSetCommand(&o),
		a.deleteSub(&o, "Delete a secret", a.completeSecrets, a.secretDelete))
	return cmd
}

func (a *App) secretGetCommand(o *listOptions) *cobra.Command {
	var output outputOptions
	cmd := &cobra.Command{
		Use: "get name", Short: "Show a secret with its value", Args: names(1, 1, "name"),
		ValidArgsFunction: a.completeSecrets,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect(o.project)
			if err != nil {
				return err
			}
			secret, err := s.GetSecret(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if output.wantsJSON() {
				return a.printIndented(secret)
			}
			a.write(a.Render(render.SecretsTable([]api.Secret{secret})) + "\n")
			return nil
		},
	}
	a.projectFlag(cmd, &o.project)
	output.define(cmd.Flags())
	return cmd
}

func (a *App) secretSetCommand(o *listOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use: "set name [value]", Short: "Create or change a secret", Args: names(1, 2, "name"),
		Long: "Create or change a secret. Without a value, or with -, it is read from standard input, so that it appears in no history and no process list.\n\n" +
			"A value that begins with a hyphen goes after --.",
		ValidArgsFunction: a.completeSecrets,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect(o.project)
			if err != nil {
				return err
			}
			value := append(args, "-")[1]
			if value == "-" {
				if value, err = a.readSecret(cmd.Context()); err != nil {
					return err
				}
			}
			a.log.redact(value)
			if err := s.SetSecret(cmd.Context(), args[0], value); err != nil {
				return err
			}
			a.Print("OK")
			return nil
		},
	}
	a.projectFlag(cmd, &o.project)
	return cmd
}

// maxSecretInput is how much of standard input is taken for a secret.
const maxSecretInput = 64 << 10

// readSecret asks for a value without showing it, or reads all of standard
// input but its last line feed.
func (a *App) readSecret(ctx context.Context) (string, error) {
	if a.Interactive() {
		return a.AskHidden(ctx, "Value: ")
	}
	text, err := io.ReadAll(io.LimitReader(a.In, maxSecretInput))
	if err != nil {
		return "", sentence("Reading the secret from standard input failed: %v", err)
	}
	if len(text) == 0 {
		return "", sentence("No value: give it as an argument, or on standard input")
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), nil
}

func (a *App) secretDelete(ctx context.Context, s *session, name string, yes bool) error {
	if err := a.askUnless(ctx, yes, "Delete the secret "+name+"?"); err != nil {
		return err
	}
	if err := s.DeleteSecrets(ctx, []string{name}); err != nil {
		return err
	}
	a.Print("OK")
	return nil
}

func (a *App) completeSecrets(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	return namesOf(a, func(ctx context.Context, s *session) ([]api.Secret, error) { return s.ListSecrets(ctx) },
		func(s api.Secret) string { return s.Name })(cmd, args, word)
}
