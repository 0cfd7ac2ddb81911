// Package volumes gives the network volumes of a cloud to the tasks of a
// host: it finds the device, formats it once, and mounts it once, however many
// tasks use it (shared spec: job-execution.md 6.4).
package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"dstack/protocol/hostapi"
)

// Base is where volumes are mounted, each in a folder of its name. Nobody but
// root comes in, since the volumes themselves are open to every job.
const Base = "/mnt/disks/dstack-volumes"

// Limits of how long is waited for what a cloud, a device or a program does.
const (
	findEvery = 500 * time.Millisecond
	probes    = 3
	busyEvery = 500 * time.Millisecond
	busyTries = 20
)

// Command runs a program of the host and returns its output. A program that
// ended with a status other than 0 is an [*exec.ExitError].
type Command func(ctx context.Context, name string, args ...string) ([]byte, error)

// Config is what of a host decides about its volumes.
type Config struct {
	// Base is where volumes are mounted.
	Base string
	// Sys and Dev are the host's /sys and /dev.
	Sys, Dev string
	// Run runs programs of the host.
	Run Command
	// FindLimit is how long a device may take to appear, ProbeEvery the pause
	// between two looks at a device that seems to be empty.
	FindLimit, ProbeEvery time.Duration
	Log                   zerolog.Logger
}

// Host is the configuration of the host that this runs on.
func Host(run Command, log zerolog.Logger) Config {
	return Config{Base: Base, Sys: "/sys", Dev: "/dev", Run: run, FindLimit: 30 * time.Second, ProbeEvery: time.Second, Log: log}
}

// Disks are the volumes of a host. It is safe for concurrent use.
type Disks struct {
	cfg Config
	mu  sync.Mutex // held while anything is mounted or unmounted
}

// New makes the volumes of a host.
func New(cfg Config) *Disks { return &Disks{cfg: cfg} }

// volumeName is what may name a volume: it becomes the name of a folder.
var volumeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// Mount makes a volume available and returns the folder where it is. It may be
// repeated; a volume that is mounted stays as it is. The error is a sentence
// for the user.
func (d *Disks) Mount(ctx context.Context, v hostapi.Volume) (string, error) {
	if !volumeName.MatchString(v.Name) {
		return "", fmt.Errorf("the name of a volume must match %s, %q does not", volumeName, v.Name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	dir := filepath.Join(d.cfg.Base, v.Name)
	device, err := d.await(ctx, v)
	if err != nil {
		return "", err
	}
	mounted, err := mountsBelow(d.cfg.Base)
	if err != nil {
		return "", err
	}
	if number, ok := mounted[dir]; ok {
		if number == device.number {
			return dir, nil
		}
		return "", fmt.Errorf("another device is mounted at %s, not %s of volume %s", dir, device.path, v.Name)
	}
	if err := d.makeReady(ctx, v, device); err != nil {
		return "", err
	}
	if err := d.mount(ctx, device, dir); err != nil {
		return "", fmt.Errorf("volume %s cannot be mounted: %w", v.Name, err)
	}
	d.cfg.Log.Info().Str("volume", v.Name).Str("id", v.ID).Str("device", device.path).Msg("volume mounted")
	return dir, nil
}

func (d *Disks) mount(ctx context.Context, device device, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make its folder: %w", err)
	}
	_, err := d.run(ctx, "mount", device.path, dir)
	return err
}

// Keep unmounts all volumes but those that are named. What a process of the
// host still holds open is taken from it, after its data was written.
func (d *Disks) Keep(ctx context.Context, names func() []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	mounted, err := mountsBelow(d.cfg.Base)
	if err != nil {
		return err
	}
	keep := names()
	var errs []error
	for dir := range mounted {
		if name := filepath.Base(dir); !slices.Contains(keep, name) {
			errs = append(errs, d.unmount(ctx, dir))
		}
	}
	return errors.Join(errs...)
}

func (d *Disks) unmount(ctx context.Context, dir string) error {
	var err error
	for range busyTries {
		err = unix.Unmount(dir, 0)
		if !errors.Is(err, unix.EBUSY) || !sleep(ctx, busyEvery) {
			break
		}
	}
	if errors.Is(err, unix.EBUSY) {
		d.cfg.Log.Warn().Str("folder", dir).Msg("volume in use on the host; unmounted all the same")
		err = detach(dir)
	}
	if err != nil && !errors.Is(err, unix.EINVAL) { // not mounted any more
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove folder of volume: %w", err)
	}
	d.cfg.Log.Info().Str("folder", dir).Msg("volume unmounted")
	return nil
}

// detach takes a file system from those who use it, with all data written.
func detach(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open file system: %w", err)
	}
	err = unix.Syncfs(int(f.Fd()))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write data: %w", err)
	}
	return unix.Unmount(dir, unix.MNT_DETACH)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
