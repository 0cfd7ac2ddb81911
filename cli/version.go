package cli

import (
	"github.com/spf13/cobra"

	"dstack/protocol/version"
)

func (a *App) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "version", Short: "Show the version of this build and of the dstack it is compatible with", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return a.printJSON(struct {
					Version    string `json:"version"`
					Compatible string `json:"compatible"`
				}{version.Version, version.Compatible})
			}
			a.Printf("dstack %s\ncompatible with dstack %s", version.Version, version.Compatible)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}
