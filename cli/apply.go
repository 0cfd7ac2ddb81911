package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dstack/cli/term"
	"dstack/protocol/config"
)

type applyOptions struct {
	project                     string
	file                        string
	yes, force, detach, verbose bool
	run                         runFlags
}

const applyLong = `Apply a configuration: submit a run, create or update a fleet, gateway or volume. The plan is shown first and has to be confirmed.

Run ` + "`dstack apply -h TYPE`" + ` for the options of a type of configuration (dev-environment, task, service, fleet, gateway, volume, preset). While a run is followed, Ctrl-C offers to detach, stop or abort. The exit code is 0 if the run is done, else the exit status of the job, else 1; a signal gives 128 plus its number.`

func (a *App) applyCommand() *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use: "apply [RUN_ARGS ...]", Short: "Apply a configuration", Long: applyLong,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkExclusive(cmd); err != nil {
				return err
			}
			return a.apply(cmd.Context(), cmd, o, args)
		},
	}
	set := cmd.Flags()
	a.projectFlag(cmd, &o.project)
	set.StringVarP(&o.file, "file", "f", "", "The configuration file, default .dstack.yml; - is standard input and needs -y")
	metavar(set, "file", "FILE")
	set.BoolVarP(&o.yes, "yes", "y", false, "Don't ask for confirmation")
	set.BoolVar(&o.force, "force", false, "Apply even if nothing changed")
	set.BoolVarP(&o.detach, "detach", "d", false, "Exit once the configuration is submitted")
	set.BoolVarP(&o.verbose, "verbose", "v", false, "Show more of the plan")
	o.run.define(set)
	a.completeFlag(cmd, "file", completeYAML)
	a.completeRunFlags(cmd)
	return cmd
}

// configurationTypes are the values that `apply -h` takes.
var configurationTypes = []string{"dev-environment", "task", "service", "fleet", "gateway", "volume", "preset"}

// helpType finds TYPE in `apply -h TYPE`.
func helpType(args []string) string {
	for i, arg := range args {
		if (arg == "-h" || arg == "--help") && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
			return args[i+1]
		}
	}
	return ""
}

func (a *App) apply(ctx context.Context, cmd *cobra.Command, o applyOptions, args []string) error {
	conf, path, err := a.loadConfiguration(o.file, o.yes, o.run.name != "")
	if err != nil {
		return err
	}
	for _, warning := range conf.Warnings {
		a.warn(warning.Error())
	}
	if err := checkTypeFlags(cmd, typeOf(conf), args); err != nil {
		return err
	}
	if conf.Preset != nil {
		return a.applyPreset(o, *conf.Preset)
	}
	s, err := a.connect(o.project)
	if err != nil {
		return err
	}
	switch {
	case conf.Fleet != nil:
		err = a.applyFleet(ctx, s, o, *conf.Fleet, path)
	case conf.Gateway != nil:
		err = a.applyGateway(ctx, s, o, *conf.Gateway, path)
	case conf.Volume != nil:
		err = a.applyVolume(ctx, s, o, *conf.Volume, path)
	default:
		err = a.applyRun(ctx, cmd, s, o, *conf.Run, path, args)
	}
	if _, said := errors.AsType[exitError](err); said {
		return err
	}
	if errors.Is(err, term.ErrInterrupted) || (err != nil && errors.Is(context.Cause(ctx), term.ErrInterrupted)) {
		a.Print("\nOperation interrupted by user. Exiting...")
		return exitError{exitOK}
	}
	return err
}

// typeOf is the value of "type" in a configuration.
func typeOf(conf config.Apply) string {
	switch {
	case conf.Fleet != nil:
		return config.TypeFleet
	case conf.Gateway != nil:
		return config.TypeGateway
	case conf.Volume != nil:
		return config.TypeVolume
	case conf.Preset != nil:
		return config.TypePreset
	}
	return conf.Run.Type()
}

// checkTypeFlags fails on options and words that this type of configuration
// does not take.
func checkTypeFlags(cmd *cobra.Command, kind string, args []string) error {
	var foreign []string
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if types := f.Annotations[noteTypes]; types != nil && !slices.Contains(types, kind) {
			name := "--" + f.Name
			if f.Shorthand != "" {
				name = "-" + f.Shorthand
			}
			foreign = append(foreign, name)
		}
	})
	if kind != config.TypeTask && kind != config.TypeService {
		foreign = append(foreign, args...)
	}
	if foreign != nil {
		return unrecognizedError{foreign}
	}
	return nil
}

// loadConfiguration reads the file to apply and gives its path as the server
// gets to know it: relative to the working folder where that is possible. The
// name in the file does not matter if an option renames it.
func (a *App) loadConfiguration(file string, yes, renamed bool) (config.Apply, string, error) {
	file, data, err := a.readConfiguration(file, yes)
	if err != nil {
		return config.Apply{}, "", err
	}
	conf, err := config.DecodeApply(file, data)
	if err != nil {
		return config.Apply{}, "", err
	}
	if !renamed {
		err = config.CheckName(file, data)
	}
	return conf, relativePath(file), err
}

func (a *App) readConfiguration(file string, yes bool) (string, []byte, error) {
	switch file {
	case "-":
		if !yes {
			return "", nil, sentence("Cannot read configuration from stdin if -y/--yes is not specified")
		}
		data, err := io.ReadAll(a.In)
		if err != nil {
			return "", nil, fmt.Errorf("read configuration from stdin: %w", err)
		}
		return "-", data, nil
	case "":
		for _, name := range []string{".dstack.yml", ".dstack.yaml"} {
			data, err := os.ReadFile(name)
			if err == nil {
				return name, data, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return "", nil, sentence("Failed to load configuration from %s: %v", name, errors.Unwrap(err))
			}
		}
		return "", nil, sentence("No configuration file specified via `-f` and no default .dstack.yml configuration found")
	}
	data, err := os.ReadFile(expandHome(file, a.env.Home))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil, sentence("Configuration file %s does not exist", file)
	case err != nil:
		return "", nil, sentence("Failed to load configuration from %s: %v", file, errors.Unwrap(err))
	}
	return file, data, nil
}

func relativePath(file string) string {
	if file == "-" {
		return file
	}
	dir, err := os.Getwd()
	if err != nil {
		return file
	}
	absolute, err := filepath.Abs(file)
	if err != nil {
		return file
	}
	relative, err := filepath.Rel(dir, absolute)
	if err != nil {
		return file
	}
	return relative
}

func expandHome(path, home string) string {
	if path == "~" || strings.HasPrefix(path, "~/") {
		return filepath.Join(home, strings.TrimPrefix(path, "~"))
	}
	return path
}
