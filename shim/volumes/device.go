package volumes

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dstack/protocol/hostapi"
)

// device is a block device, or its first partition if it has any.
type device struct {
	path string
	// number is MAJOR:MINOR.
	number string
}

// sector is the unit of sizes in sysfs, in bytes.
const sector = 512

// await waits until the device of a volume is there.
func (d *Disks) await(ctx context.Context, v hostapi.Volume) (device, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.FindLimit)
	defer cancel()
	for {
		found, err := d.find(v)
		if err == nil {
			return found, nil
		}
		if !sleep(ctx, findEvery) {
			return device{}, fmt.Errorf("volume %s (%s) did not appear on the host within %s: %w", v.Name, v.ID, d.cfg.FindLimit, err)
		}
	}
}

// find looks for the device whose serial number is the id of the volume. Where
// disks of the cloud have none, the name counts that the cloud gave to it,
// if the size is right, too: some other disk may have that name.
func (d *Disks) find(v hostapi.Volume) (device, error) {
	disks, err := os.ReadDir(filepath.Join(d.cfg.Sys, "block"))
	if err != nil {
		return device{}, fmt.Errorf("list disks: %w", err)
	}
	serials := false
	for _, disk := range disks {
		serial := d.serial(disk.Name())
		if serial == "" {
			continue
		}
		if serial == plain(v.ID) {
			return d.open(filepath.Join(d.cfg.Dev, d.partition(disk.Name())))
		}
		serials = serials || strings.HasPrefix(serial, volumePrefix)
	}
	if serials {
		return device{}, fmt.Errorf("no disk has the serial number %s", plain(v.ID))
	}
	return d.findByName(v)
}

// volumePrefix begins the serial numbers of volumes of AWS: where one disk has
// such a number, all volumes do.
const volumePrefix = "vol"

// plain is an id as it stands in a serial number.
func plain(id string) string { return strings.ReplaceAll(id, "-", "") }

func (d *Disks) serial(disk string) string {
	for _, name := range []string{"device/serial", "serial"} {
		if b, err := os.ReadFile(filepath.Join(d.cfg.Sys, "block", disk, name)); err == nil {
			return plain(strings.TrimSpace(string(b)))
		}
	}
	return ""
}

// partition is the name of a disk's first partition, or of the disk itself.
func (d *Disks) partition(disk string) string {
	dir := filepath.Join(d.cfg.Sys, "block", disk)
	parts, err := filepath.Glob(filepath.Join(dir, disk+"*", "partition"))
	if err != nil || len(parts) == 0 {
		return disk
	}
	number := func(p string) int {
		b, err := os.ReadFile(p)
		if err != nil {
			return 0
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			return 0
		}
		return n
	}
	first := slices.MinFunc(parts, func(a, b string) int { return number(a) - number(b) })
	return filepath.Base(filepath.Dir(first))
}

func (d *Disks) findByName(v hostapi.Volume) (device, error) {
	name, ok := strings.CutPrefix(v.Device, "/dev/")
	if !ok || !filepath.IsLocal(name) {
		return device{}, fmt.Errorf("no disk has the serial number %s, and %q is no name of a device", plain(v.ID), v.Device)
	}
	names := []string{name}
	if letter, ok := strings.CutPrefix(name, "sd"); ok {
		names = append(names, "xvd"+letter) // as Xen calls it
	}
	for _, name := range names {
		found, err := d.open(filepath.Join(d.cfg.Dev, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return device{}, err
		}
		size, disk, err := d.describe(found)
		if err != nil {
			return device{}, err
		}
		if v.SizeGB > 0 && size != int64(v.SizeGB)<<30 {
			return device{}, fmt.Errorf("%s has %d bytes, not %d GB", found.path, size, v.SizeGB)
		}
		if part := d.partition(disk); part != disk {
			return d.open(filepath.Join(d.cfg.Dev, part))
		}
		return found, nil
	}
	return device{}, fmt.Errorf("no disk has the serial number %s or the name %s", plain(v.ID), strings.Join(names, " or "))
}

// describe is the size of a device in bytes and what the kernel calls it.
func (d *Disks) describe(dev device) (size int64, name string, err error) {
	dir := filepath.Join(d.cfg.Sys, "dev", "block", dev.number)
	name, err = filepath.EvalSymlinks(dir)
	if err != nil {
		return 0, "", fmt.Errorf("look up %s: %w", dev.path, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "size"))
	if err != nil {
		return 0, "", fmt.Errorf("read size of %s: %w", dev.path, err)
	}
	sectors, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, "", fmt.Errorf("read size of %s: %w", dev.path, err)
	}
	return sectors * sector, filepath.Base(name), nil
}

// open looks at a device file.
func (d *Disks) open(path string) (device, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return device{}, fmt.Errorf("look at %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return device{}, fmt.Errorf("%s is no block device", path)
	}
	return device{path: path, number: fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))}, nil
}

// mountsBelow are the mounts in a folder: the numbers of the devices that were
// mounted there last.
func mountsBelow(base string) (map[string]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return parseMounts(data, base), nil
}

func parseMounts(data []byte, base string) map[string]string {
	out := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		// ID PARENT MAJOR:MINOR ROOT FOLDER OPTIONS ...
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if dir := fields[4]; filepath.Dir(dir) == base {
			out[dir] = fields[2]
		}
	}
	return out
}
