package cli

import (
	"context"

	"github.com/spf13/cobra"

	"dstack/cli/render"
	"dstack/cli/term"
	"dstack/client"
	"dstack/protocol/api"
)

func (a *App) volumeCommand() *cobra.Command {
	var o listOptions
	cmd := listCommand(a, &o, listing[api.Volume]{
		name: "volume", subs: "list,get,delete", short: "Manage volumes", key: "volumes",
		verbose: "Show regions, attachments and errors",
		list:    func(ctx context.Context, s *session) ([]api.Volume, error) { return s.ListVolumes(ctx) },
		table: func(items []api.Volume, _ string, verbose bool) term.Table {
			return render.VolumesTable(items, verbose, a.age)
		},
	})
	cmd.AddCommand(
		getCommand(a, &o, "volume", a.completeVolumes, func(ctx context.Context, s *session, name string) (api.Volume, error) {
			return s.GetVolume(ctx, name)
		}),
		a.deleteSub(&o, "Delete a volume and its data", a.completeVolumes, a.volumeDelete))
	return cmd
}

func (a *App) volumeDelete(ctx context.Context, s *session, name string, yes bool) error {
	if _, err := s.GetVolume(ctx, name); client.IsNotExist(err) {
		return missing("Volume %s does not exist", name)
	} else if err != nil {
		return err
	}
	if err := a.askUnless(ctx, yes, "Delete the volume "+name+"?"); err != nil {
		return err
	}
	if err := s.DeleteVolumes(ctx, []string{name}); err != nil {
		return err
	}
	a.Printf("Volume %s deleted", name)
	return nil
}

func (a *App) completeVolumes(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	return namesOf(a, func(ctx context.Context, s *session) ([]api.Volume, error) { return s.ListVolumes(ctx) },
		func(v api.Volume) string { return v.Name })(cmd, args, word)
}
