package volumes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"dstack/protocol/hostapi"
)

// Labels of file systems that we make: the first one while we are at it. What
// bears that one was never used and may be made again.
const (
	labelMaking = "dstack-making"
	labelMade   = "dstack"
)

// contents is what is on a device, as far as blkid knows it.
type contents struct {
	filesystem, label, table string
}

func (c contents) empty() bool { return c == contents{} }

// makeReady sees to it that a device has a file system. Only one that was made
// for us, that the controller never saw formatted, and on which nothing is
// found gets one.
func (d *Disks) makeReady(ctx context.Context, v hostapi.Volume, dev device) error {
	var found contents
	for try := range probes {
		var err error
		if found, err = d.probe(ctx, dev); err != nil {
			return fmt.Errorf("volume %s cannot be looked at: %w", v.Name, err)
		}
		// A device that has just appeared may read as empty for a moment.
		if !found.empty() || try == probes-1 || !sleep(ctx, d.cfg.ProbeEvery) {
			break
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("volume %s was not looked at: %w", v.Name, context.Cause(ctx))
	}
	unfinished := found.label == labelMaking
	switch {
	case found.filesystem != "" && !unfinished:
		return nil
	case found.table != "":
		return fmt.Errorf("volume %s has partitions (%s) and no file system that could be mounted", v.Name, found.table)
	case !v.Format:
		return fmt.Errorf("volume %s has no file system, and one that holds data, or was not made by dstack, is never formatted: format it once yourself, for example with mkfs.ext4", v.Name)
	}
	if err := d.format(ctx, v, dev); err != nil {
		return fmt.Errorf("volume %s cannot be formatted: %w", v.Name, err)
	}
	return nil
}

// probe exit statuses of blkid.
const (
	blkidNothing   = 2
	blkidAmbiguous = 8
)

func (d *Disks) probe(ctx context.Context, dev device) (contents, error) {
	out, err := d.run(ctx, "blkid", "-p", "-o", "export", dev.path)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		switch exit.ExitCode() {
		case blkidNothing:
			return contents{}, nil
		case blkidAmbiguous:
			return contents{}, errors.New("it has the marks of more than one file system")
		}
	}
	if err != nil {
		return contents{}, err
	}
	var c contents
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "TYPE":
			c.filesystem = value
		case "LABEL":
			c.label = value
		case "PTTYPE":
			c.table = value
		}
	}
	return c, nil
}

// format makes a file system that all jobs may write to. It gets its label,
// which says that it may be used, when all else is done.
func (d *Disks) format(ctx context.Context, v hostapi.Volume, dev device) error {
	dir := filepath.Join(d.cfg.Base, ".new-"+v.Name)
	if err := unix.Unmount(dir, 0); err == nil {
		d.cfg.Log.Warn().Str("volume", v.Name).Msg("volume is formatted again after an interruption")
	}
	d.cfg.Log.Info().Str("volume", v.Name).Str("id", v.ID).Str("device", dev.path).Msg("volume is formatted")
	if _, err := d.run(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", "-L", labelMaking, dev.path); err != nil {
		return err
	}
	if err := d.mount(ctx, dev, dir); err != nil {
		return err
	}
	err := os.Chmod(dir, 0o777)
	if err := errors.Join(err, unix.Unmount(dir, 0), os.Remove(dir)); err != nil {
		return fmt.Errorf("open it to all users: %w", err)
	}
	_, err = d.run(ctx, "e2label", dev.path, labelMade)
	return err
}

// run runs a program and says what it said if it failed.
func (d *Disks) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	out, err := d.cfg.Run(ctx, name, args...)
	if err == nil {
		return out, nil
	}
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("the host lacks the program %s: %w", name, err)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(exit.Stderr) > 0 {
		return nil, fmt.Errorf("%s: %s: %w", name, bytes.TrimSpace(exit.Stderr), err)
	}
	return nil, fmt.Errorf("%s: %w", name, err)
}
