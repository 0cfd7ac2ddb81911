// Command dstack is the command line, and with `dstack server` the server.
package main

import (
	"context"
	"os"
	"time"

	"dstack/cli"
)

func main() {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	os.Exit(cli.Main(context.Background(), cli.Env{
		Args:      os.Args[1:],
		Stdin:     os.Stdin,
		Stdout:    os.Stdout,
		Stderr:    os.Stderr,
		Getenv:    os.Getenv,
		LookupEnv: os.LookupEnv,
		Home:      home,
		Now:       time.Now,
		Serve:     func(ctx context.Context, o cli.ServerOptions) error { return serve(ctx, o, home) },
		Restore:   func(ctx context.Context, o cli.RestoreOptions) error { return restore(ctx, o, home) },
		Backup:    func(ctx context.Context, file string) error { return backup(ctx, file, home) },
		Health:    func(ctx context.Context, o cli.HealthOptions) error { return health(ctx, o, home) },
	}))
}
