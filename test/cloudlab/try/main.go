//go:build e2e

// Command try opens a cloud lab for a person and keeps it until Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"dstack/test/cloudlab"
	"dstack/test/lab"
)

func main() {
	if err := try(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func try() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	l, err := lab.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	c, err := cloudlab.Open(ctx, l)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	fmt.Printf(`# ~/.dstack/server/config.yml, for a server that is started with %s
%s
# An image that its machines can pull: %s
# Faults, for example: curl -X POST %s/fault -d '{"action": "RunInstances", "code": "InsufficientInstanceCapacity", "status": 500}'
# More of them: test/cloudlab/orders.go. Ctrl-C ends the cloud and all its machines.
`, c.Env()[0], cloudlab.Config(cloudlab.Region), lab.Busybox, c.Control)
	<-ctx.Done()
	return nil
}
