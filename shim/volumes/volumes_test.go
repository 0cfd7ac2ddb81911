package volumes

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"dstack/protocol/hostapi"
)

// host is a tree of /sys and /dev in which devices are links to a real one.
type host struct {
	t    *testing.T
	root string
	out  map[string]string // what programs print
	ran  []string
	err  error
}

func newHost(t *testing.T) *host {
	h := &host{t: t, root: t.TempDir(), out: map[string]string{}}
	h.write("sys/block/.keep", "")
	h.write("dev/.keep", "")
	return h
}

func (h *host) write(path, text string) {
	h.t.Helper()
	path = filepath.Join(h.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) run(_ context.Context, name string, args ...string) ([]byte, error) {
	h.ran = append(h.ran, name+" "+strings.Join(args, " "))
	return []byte(h.out[name]), h.err
}

func (h *host) disks() *Disks {
	return New(Config{
		Base: filepath.Join(h.root, "mnt"), Sys: filepath.Join(h.root, "sys"), Dev: filepath.Join(h.root, "dev"),
		Run: h.run, Log: zerolog.Nop(),
	})
}

// TestFindBySerial finds the name of the disk; that it is no device says where
// it was looked for.
func TestFindBySerial(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write("sys/block/nvme0n1/device/serial", "vol0aaa \n")
	h.write("sys/block/nvme1n1/device/serial", "vol0bbb\n")
	h.write("sys/block/nvme2n1/device/serial", "vol0ccc\n")
	h.write("sys/block/nvme2n1/nvme2n1p2/partition", "2\n")
	h.write("sys/block/nvme2n1/nvme2n1p1/partition", "1\n")
	h.write("sys/block/vda/serial", "data-disk-1\n")
	for _, name := range []string{"nvme1n1", "nvme2n1p1", "vda", "sdf"} {
		h.write("dev/"+name, "")
	}
	for id, want := range map[string]string{
		"vol-0bbb":    "dev/nvme1n1 is no block device",
		"vol-0ccc":    "dev/nvme2n1p1 is no block device",
		"data-disk-1": "dev/vda is no block device",
		"vol-0ddd":    "no disk has the serial number vol0ddd",
	} {
		_, err := h.disks().find(hostapi.Volume{Name: "v", ID: id, Device: "/dev/sdf"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", id, err, want)
		}
	}
}

func TestFindByName(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write("dev/xvdg", "")
	for device, want := range map[string]string{
		"/dev/sdf":         `no disk has the serial number vol1 or the name sdf or xvdf`,
		"/dev/sdg":         `dev/xvdg is no block device`,
		"/dev/../etc/sdg":  `"/dev/../etc/sdg" is no name of a device`,
		"/dev/nvme-x":      `or the name nvme-x`,
		"vdb":              `"vdb" is no name of a device`,
		"":                 `"" is no name of a device`,
		"/dev/disk/by-id/": `or the name disk/by-id/`,
	} {
		_, err := h.disks().find(hostapi.Volume{Name: "v", ID: "vol-1", Device: device})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", device, err, want)
		}
	}
}

func TestParseMounts(t *testing.T) {
	t.Parallel()
	const info = `22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
42 22 259:1 / /mnt/v/a rw,relatime - ext4 /dev/nvme1n1 rw
43 42 259:2 / /mnt/v/a/inner rw - ext4 /dev/nvme2n1 rw
44 22 259:3 / /mnt/v/b rw shared:1 - xfs /dev/nvme3n1 rw
short line
`
	want := map[string]string{"/mnt/v/a": "259:1", "/mnt/v/b": "259:3"}
	if diff := cmp.Diff(want, parseMounts([]byte(info), "/mnt/v")); diff != "" {
		t.Error(diff)
	}
}

// status is the error of a program that ended with a status.
func status(t *testing.T, code string) error {
	t.Helper()
	err := exec.Command("sh", "-c", "exit "+code).Run()
	if _, ok := errors.AsType[*exec.ExitError](err); !ok {
		t.Fatal(err)
	}
	return err
}

// TestMakeReady decides what is formatted.
func TestMakeReady(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		blkid   string
		err     error
		format  bool
		want    string // of the error
		formats bool
	}{
		"used before":           {blkid: "TYPE=ext4\nLABEL=mine\n"},
		"used before, new":      {blkid: "TYPE=xfs\n", format: true},
		"made by us":            {blkid: "LABEL=dstack\nTYPE=ext4\n", format: true},
		"empty":                 {err: status(t, "2"), format: true, formats: true},
		"interrupted":           {blkid: "LABEL=dstack-making\nTYPE=ext4\n", format: true, formats: true},
		"empty, not ours":       {err: status(t, "2"), want: "volume v has no file system"},
		"interrupted, not ours": {blkid: "LABEL=dstack-making\nTYPE=ext4\n", want: "volume v has no file system"},
		"partitions":            {blkid: "PTTYPE=gpt\n", format: true, want: "volume v has partitions (gpt)"},
		"ambiguous":             {err: status(t, "8"), format: true, want: "marks of more than one file system"},
		"unreadable":            {err: status(t, "4"), format: true, want: "volume v cannot be looked at: blkid"},
		"no blkid":              {err: exec.ErrNotFound, format: true, want: "the host lacks the program blkid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.out["blkid"] = tt.blkid
			mkfs := false
			d := New(Config{Base: filepath.Join(h.root, "mnt"), Log: zerolog.Nop(), Run: func(ctx context.Context, name string, args ...string) ([]byte, error) {
				if name == "blkid" {
					h.err = tt.err
					return h.run(ctx, name, args...)
				}
				mkfs = mkfs || name == "mkfs.ext4"
				return nil, errors.New("stop here")
			}})
			err := d.makeReady(t.Context(), hostapi.Volume{Name: "v", Format: tt.format}, device{path: "/dev/x"})
			if mkfs != tt.formats {
				t.Errorf("formatted: %t", mkfs)
			}
			if want := tt.want; !tt.formats && (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		})
	}
}

// TestProbeAgain looks at a device more than once before it counts as empty.
func TestProbeAgain(t *testing.T) {
	t.Parallel()
	looks := 0
	empty := status(t, "2")
	d := New(Config{Base: t.TempDir(), Log: zerolog.Nop(), ProbeEvery: time.Nanosecond, Run: func(context.Context, string, ...string) ([]byte, error) {
		looks++
		if looks < 3 {
			return nil, empty
		}
		return []byte("TYPE=ext4\n"), nil
	}})
	if err := d.makeReady(t.Context(), hostapi.Volume{Name: "v", Format: true}, device{path: "/dev/x"}); err != nil || looks != 3 {
		t.Errorf("%d looks: %v", looks, err)
	}
}

func TestBadName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "..", "a/b", ".new-a", strings.Repeat("a", 65)} {
		if _, err := newHost(t).disks().Mount(t.Context(), hostapi.Volume{Name: name}); err == nil || !strings.Contains(err.Error(), "name of a volume") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
