//go:build e2e

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
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"dstack/protocol/hostapi"
)

// sizeGB is the size of the volumes of this test; the files have holes.
const sizeGB = 1

func program(ctx context.Context, name string, args ...string) ([]byte, error) {
	return exec.CommandContext(ctx, name, args...).Output()
}

// loop makes a disk of a file, and attaches it as the device /dev/sdf of a
// host. The device itself is one of this machine's.
func loop(t *testing.T, dev, name string) (path string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, sizeGB<<30); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "-f", "--show", file).Output()
	if err != nil {
		t.Fatalf("make loop device: %v", err)
	}
	path = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", path).CombinedOutput(); err != nil {
			t.Errorf("remove loop device: %v: %s", err, out)
		}
	})
	attach(t, path, filepath.Join(dev, name))
	return path
}

// attach shows a device under another name, as the cloud lab does.
func attach(t *testing.T, path, as string) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(as, unix.S_IFBLK|0o600, int(st.Rdev)); err != nil {
		t.Fatal(err)
	}
}

func newDisks(t *testing.T) (*Disks, Config) {
	t.Helper()
	base := filepath.Join(t.TempDir(), "volumes")
	cfg := Config{Base: base, Sys: "/sys", Dev: t.TempDir(), Run: program, FindLimit: 20 * time.Second, Log: zerolog.New(zerolog.NewTestWriter(t))}
	d := New(cfg)
	t.Cleanup(func() {
		if err := d.Keep(context.Background(), func() []string { return nil }); err != nil {
			t.Error(err)
		}
	})
	return d, cfg
}

// TestVolume formats a volume once and keeps its data from one machine to the
// next. Loop devices have no serial number, so it is found by name and size.
func TestVolume(t *testing.T) {
	first, cfg := newDisks(t)
	v := hostapi.Volume{Name: "data", ID: "vol-0aa", Device: "/dev/sdf", SizeGB: sizeGB, Format: true}
	var group sync.WaitGroup
	for range 4 { // tasks that start at the same time share it
		group.Go(func() {
			if dir, err := first.Mount(t.Context(), v); err != nil || dir != filepath.Join(cfg.Base, "data") {
				t.Errorf("mounted at %q: %v", dir, err)
			}
		})
	}
	path := loop(t, cfg.Dev, "xvdf") // mostly, they wait for it already
	group.Wait()
	dir := filepath.Join(cfg.Base, "data")
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("mode of the volume: %v %v", info, err)
	}
	if info, err := os.Stat(cfg.Base); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode of the folder of volumes: %v %v", info, err)
	}
	write(t, filepath.Join(dir, "file"), "kept")

	if err := first.Keep(t.Context(), func() []string { return []string{"data"} }); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "file")); err != nil {
		t.Errorf("a volume in use: %v", err)
	}
	if err := first.Keep(t.Context(), func() []string { return nil }); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder after unmounting: %v", err)
	}

	// The next machine is asked to format it, too, as after a lost answer.
	second, next := newDisks(t)
	attach(t, path, filepath.Join(next.Dev, "sdf"))
	dir, err := second.Mount(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != "kept" {
		t.Errorf("the data: %q, %v", got, err)
	}

	// What a process of the host holds open is written and taken away.
	held, err := os.Create(filepath.Join(dir, "held"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	busy := New(next)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := busy.Keep(ctx, func() []string { return nil }); err != nil {
		t.Error(err)
	}
	if mounted, err := mountsBelow(next.Base); err != nil || len(mounted) > 0 {
		t.Errorf("still mounted: %v %v", mounted, err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFormatCut cuts the formatting at each program that it runs: the volume
// is then made once more, and never used half made.
func TestFormatCut(t *testing.T) {
	for cut := 1; ; cut++ {
		d, cfg := newDisks(t)
		loop(t, cfg.Dev, "sdf")
		calls, done := 0, true
		cfg.Run = func(ctx context.Context, name string, args ...string) ([]byte, error) {
			if calls++; calls >= cut {
				done = false
				return nil, errors.New("cut")
			}
			return program(ctx, name, args...)
		}
		v := hostapi.Volume{Name: "data", ID: "vol-0aa", Device: "/dev/sdf", SizeGB: sizeGB, Format: true}
		if _, err := New(cfg).Mount(t.Context(), v); (err == nil) != done {
			t.Fatalf("cut %d: %v", cut, err)
		}
		if done {
			if cut < 7 {
				t.Errorf("it took %d programs only", cut-1)
			}
			return
		}
		dir, err := d.Mount(t.Context(), v)
		if err != nil {
			t.Fatalf("after cut %d: %v", cut, err)
		}
		if out, err := exec.Command("blkid", "-p", "-o", "value", "-s", "LABEL", filepath.Join(cfg.Dev, "sdf")).Output(); err != nil || string(bytes.TrimSpace(out)) != labelMade {
			t.Errorf("after cut %d: label %s, %v", cut, out, err)
		}
		write(t, filepath.Join(dir, "file"), "x")
	}
}

// TestForeign leaves alone what holds anything.
func TestForeign(t *testing.T) {
	_, cfg := newDisks(t)
	cfg.FindLimit = time.Millisecond
	d := New(cfg)
	path := loop(t, cfg.Dev, "sdf")
	v := hostapi.Volume{Name: "data", ID: "vol-0aa", Device: "/dev/sdf", SizeGB: sizeGB}
	for name, tt := range map[string]struct {
		make   string
		change func(*hostapi.Volume)
		want   string
	}{
		"empty":      {"wipefs -qa " + path, func(*hostapi.Volume) {}, "volume data has no file system"},
		"swap":       {"mkswap -q " + path + " || mkswap " + path, func(v *hostapi.Volume) { v.Format = true }, "volume data cannot be mounted: mount:"},
		"other size": {"true", func(v *hostapi.Volume) { v.SizeGB, v.Format = 2, true }, fmt.Sprintf("has %d bytes, not 2 GB", sizeGB<<30)},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := exec.Command("sh", "-c", tt.make).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			changed := v
			tt.change(&changed)
			if _, err := d.Mount(t.Context(), changed); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := d.Mount(t.Context(), v); err != nil {
		t.Errorf("a volume that somebody formatted: %v", err)
	}
	other := v
	other.Device = "/dev/sdg"
	loop(t, cfg.Dev, "sdg")
	if _, err := d.Mount(t.Context(), other); err == nil || !strings.Contains(err.Error(), "another device is mounted") {
		t.Errorf("two volumes of one name: %v", err)
	}
}
