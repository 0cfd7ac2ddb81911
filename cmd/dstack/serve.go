//go:build !windows

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"dstack/cli"
	cliterm "dstack/cli/term"
	"dstack/client/userconfig"
	"dstack/controller"
	"dstack/protocol/config"
)

// serve runs `dstack server`: flags win over the environment.
func serve(ctx context.Context, o cli.ServerOptions, home string) error {
	s, err := controller.SettingsFrom(os.Getenv, home)
	if err != nil {
		return err //nolint:wrapcheck // a sentence for the user
	}
	if o.Host != "" {
		s.Host = o.Host
	}
	if o.Port != 0 {
		s.Port = o.Port
	}
	if o.LogLevel != "" {
		s.LogLevel = o.LogLevel
	}
	if o.AdminToken != "" {
		s.AdminToken = o.AdminToken
	}
	if o.UpdateDefault != nil {
		s.UpdateDefault = o.UpdateDefault
	}
	s.Replica.Wait = s.Replica.Wait || o.WaitForLease
	s.Local = s.Local || o.Local
	s.LocalShared = s.LocalShared || o.LocalShared
	//nolint:wrapcheck // a sentence for the user
	return controller.Run(ctx, controller.Config{
		Settings: s, Out: os.Stdout, Home: home, Now: time.Now, Getenv: os.Getenv,
		ConfigureCLI: func(url, project, token string) (bool, error) {
			return configureCLI(ctx, s.CLIConfig, s.UpdateDefault, config.ClientProject{Name: project, URL: url, Token: token})
		},
	})
}

// configureCLI makes the server's project known to the command line. It asks
// before it takes the place of another default project, unless told.
func configureCLI(ctx context.Context, path string, update *bool, p config.ClientProject) (bool, error) {
	if update != nil && !*update {
		return false, nil
	}
	file, err := userconfig.Load(path)
	if err != nil {
		return false, fmt.Errorf("read the projects: %w", err)
	}
	old, exists := file.Project("")
	p.Default = true
	if exists && old == p {
		return false, nil
	}
	if exists && update == nil {
		yes, err := ask(ctx, fmt.Sprintf("Update the %s project in %s?", p.Name, path))
		if err != nil || !yes {
			return false, err
		}
	}
	file.Put(p)
	file.SetDefault(p.Name)
	if err := file.Save(); err != nil {
		return false, fmt.Errorf("save the projects: %w", err)
	}
	return true, nil
}

// ask asks a person; where there is none, the answer is no.
func ask(ctx context.Context, question string) (bool, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) || !term.IsTerminal(int(os.Stdout.Fd())) {
		return false, nil
	}
	yes, err := cliterm.Open(os.Stdin, os.Stdout, os.Stderr, os.Getenv).Confirm(ctx, question)
	if err != nil {
		return false, fmt.Errorf("ask: %w", err)
	}
	return yes, nil
}

// restore runs `dstack server restore`.
func restore(ctx context.Context, o cli.RestoreOptions, home string) error {
	s, err := controller.SettingsFrom(os.Getenv, home)
	if err != nil {
		return err //nolint:wrapcheck // a sentence for the user
	}
	//nolint:wrapcheck // a sentence for the user
	return controller.Restore(ctx, controller.Config{Settings: s, Out: os.Stdout, Home: home, Now: time.Now, Getenv: os.Getenv}, o.From, o.At)
}

// backup runs `dstack server backup`.
func backup(ctx context.Context, file, home string) error {
	s, err := controller.SettingsFrom(os.Getenv, home)
	if err != nil {
		return err //nolint:wrapcheck // a sentence for the user
	}
	//nolint:wrapcheck // a sentence for the user
	return controller.Backup(ctx, controller.Config{Settings: s, Out: os.Stdout, Home: home, Now: time.Now}, file)
}

// health runs `dstack server health`: flags win over the environment.
func health(ctx context.Context, o cli.HealthOptions, home string) error {
	s, err := controller.SettingsFrom(os.Getenv, home)
	if err != nil {
		return err //nolint:wrapcheck // a sentence for the user
	}
	if o.Host != "" {
		s.Host = o.Host
	}
	if o.Port != 0 {
		s.Port = o.Port
	}
	//nolint:wrapcheck // a sentence for the user
	return controller.Health(ctx, controller.Config{Settings: s, Out: os.Stdout})
}
