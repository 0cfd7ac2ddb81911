package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"dstack/protocol/config"
)

type session struct {
	API
	project string
}

func (a *App) connect(project string) (*session, error) { return nil, errors.New("stub") }
func isNotFound(err error) bool                         { return false }
func (a *App) projectFlag(cmd *cobra.Command, p *string) {
	cmd.Flags().StringVar(p, "project", "", "The project to use (DSTACK_PROJECT, else the default project)")
	metavar(cmd.Flags(), "project", "NAME")
}
func (a *App) profile(name string, none bool) (config.Profile, error) {
	return config.Profile{}, nil
}
func (a *App) projectCommand() *cobra.Command { return &cobra.Command{Use: "project"} }
func (a *App) configCommand() *cobra.Command  { return &cobra.Command{Use: "config"} }
