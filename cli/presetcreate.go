package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// presetCreateCommand is the older form of `apply` for presets.
func (a *App) presetCreateCommand() *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use: "create", Short: "Check the configuration of a preset (deprecated: use apply)", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.Warn("`dstack preset create` is deprecated. Use `dstack apply`.")
			if err := require(cmd, "file"); err != nil {
				return err
			}
			if err := checkExclusive(cmd); err != nil {
				return err
			}
			conf, _, err := a.loadConfiguration(o.file, o.yes, o.run.name != "")
			if err != nil {
				return err
			}
			if conf.Preset == nil {
				return sentence("%s is not the configuration of a preset", o.file)
			}
			return a.applyPreset(o, *conf.Preset)
		},
	}
	set := cmd.Flags()
	set.StringVarP(&o.file, "file", "f", "", "The configuration file")
	metavar(set, "file", "FILE")
	set.StringVarP(&o.run.name, "name", "n", "", "The name of the preset")
	set.BoolVarP(&o.yes, "yes", "y", false, "Don't ask for confirmation")
	o.run.definePreset(section{set: set})
	o.run.defineProfile(section{set: set, title: "Profile"})
	return cmd
}

// leftOut makes a sub-command that has no meaning without the creation of
// presets.
func (a *App) leftOut(use, short string, yes rune) *cobra.Command {
	var ignored bool
	cmd := &cobra.Command{
		Use: use, Short: short + " (left out)", Args: names(1, 1, "ID"), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			return missing("Unknown preset: %s. This dstack creates no presets, so none is being created.", args[0])
		},
	}
	if yes != 0 {
		cmd.Flags().BoolVarP(&ignored, "yes", string(yes), false, "Don't ask for confirmation")
	} else {
		cmd.Flags().BoolVar(&ignored, "keep-service", false, "Keep the service that was tried last")
	}
	return cmd
}

// registryCommand makes a sub-command for the registry of presets, which only
// the hosted product has.
func (a *App) registryCommand(use, short string, count int) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short + " (left out)", Args: names(count, count, strings.Join(strings.Fields(use)[1:], " ")),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			if ref := args[count-1]; !validReference(ref) {
				return sentence("Invalid registry reference '%s': expected `<project>/<name|id>`", ref)
			}
			return sentence("This dstack has no registry of presets: that is a hosted product.")
		},
	}
}
