package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"dstack/protocol/hostapi"
	"dstack/shim/host"
	"dstack/shim/wipe"
)

// uninstallLimit bounds the removal of all tasks.
const uninstallLimit = 2 * time.Minute

// uninstall stops the shim of a home, removes all its tasks with containers,
// processes and keys, then the home. Nothing there is no error.
func uninstall(ctx context.Context, o options, log zerolog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, uninstallLimit)
	defer cancel()
	stopUnit(ctx, o.home, log)
	home, err := host.Stop(ctx, o.home)
	if err != nil || home == nil {
		return err
	}
	defer func() { _ = home.Close() }()
	d, err := newDaemon(ctx, o, home, log)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	g, running := errgroup.WithContext(running)
	g.Go(func() error { return d.manager.Run(running) })
	g.Go(func() error {
		defer stop()
		return d.removeAll(running)
	})
	if err := errors.Join(g.Wait(), d.journal.Close()); err != nil {
		return fmt.Errorf("uninstall: %w", err)
	}
	return removeHome(o)
}

// removeAll removes all tasks. Without an engine there are no containers that
// could run, and none that can be removed: that must not keep the rest.
func (d *daemon) removeAll(ctx context.Context) error {
	if err := d.awaitEngine(ctx); err != nil {
		d.log.Warn().Err(err).Msg("containers not removed")
		return nil
	}
	return d.manager.RemoveAll(ctx)
}

// engineLimit is how long an engine is awaited.
const engineLimit = 10 * time.Second

func (d *daemon) awaitEngine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, engineLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		p := d.manager.Info().Problem
		if p == nil || p.Code != "no_docker" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return p
		}
	}
}

// stopUnit stops the systemd unit of the installed shim, which would start it
// again at once.
func stopUnit(ctx context.Context, home string, log zerolog.Logger) {
	if home != hostapi.Home {
		return
	}
	if _, err := exec.LookPath("systemctl"); err != nil {
		return
	}
	if out, err := exec.CommandContext(ctx, "systemctl", "stop", hostapi.Unit).CombinedOutput(); err != nil {
		log.Info().Err(err).Bytes("output", out).Msg("unit not stopped")
	}
}

func removeHome(o options) error {
	base := processBase(o.home)
	for _, dir := range []string{base, o.home} {
		if err := wipe.All(dir); err != nil {
			return fmt.Errorf("remove %s: %w", dir, err)
		}
	}
	if os.Geteuid() != 0 {
		return nil // tasks had no users of their own, so nothing lay there
	}
	// The folder above is shared with other shims of this host, if there are any.
	if err := os.Remove(filepath.Dir(base)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return fmt.Errorf("remove folder of tasks: %w", err)
	}
	return nil
}
