package main

import (
	"context"
	"errors"

	"dstack/cli"
)

var errNoServer = errors.New("A server runs on Linux or macOS only: start it there, in a container or in WSL") //nolint:revive,staticcheck // a sentence for the user

// serve says where a server runs.
func serve(context.Context, cli.ServerOptions, string) error { return errNoServer }

func restore(context.Context, cli.RestoreOptions, string) error { return errNoServer }

func backup(context.Context, string, string) error { return errNoServer }

func health(context.Context, cli.HealthOptions, string) error { return errNoServer }
