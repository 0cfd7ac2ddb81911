// Package facts reads what a host is: hardware, addresses, boot.
package facts

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dstack/protocol/hostapi"
)

// Host reads the hardware and network of this host, without accelerators.
// diskRoot is the folder whose file system holds images and containers.
func Host(diskRoot string) (hostapi.Host, error) {
	name, err := os.Hostname()
	if err != nil {
		return hostapi.Host{}, fmt.Errorf("read host name: %w", err)
	}
	memory, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return hostapi.Host{}, fmt.Errorf("read memory size: %w", err)
	}
	size, free, err := Disk(diskRoot)
	if err != nil {
		return hostapi.Host{}, err
	}
	addresses, err := addresses()
	if err != nil {
		return hostapi.Host{}, err
	}
	return hostapi.Host{
		Hostname: name, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), MemoryBytes: memTotal(string(memory)),
		DiskBytes: size, DiskFree: free, Addresses: addresses, GPUs: []hostapi.GPU{},
	}, nil
}

// Disk is the size and the free space in bytes of the file system at path, or
// of the nearest folder above it that exists.
func Disk(path string) (size, free int64, err error) {
	var s unix.Statfs_t
	for {
		if err = unix.Statfs(path, &s); err == nil {
			return int64(s.Blocks) * s.Bsize, int64(s.Bavail) * s.Bsize, nil
		}
		if path == "/" || path == "." {
			return 0, 0, fmt.Errorf("read disk size: %w", err)
		}
		path = filepath.Dir(path)
	}
}

// Full limits: see [DiskProblem].
const (
	minFree    = 1 << 30
	maxPercent = 99
)

// DiskProblem is the problem of a host whose disk is full, nil if it is not:
// less than 1 GB is free, or more than 99 % is used.
func DiskProblem(path string, size, free int64) *hostapi.Problem {
	if size == 0 || (free >= minFree && float64(size-free)*100 <= maxPercent*float64(size)) {
		return nil
	}
	return &hostapi.Problem{
		Code:    "disk_full",
		Message: fmt.Sprintf("The disk of %s is full: %d MB of %d GB are free", path, free>>20, size>>30),
		Remedy:  "Free some space, for example with `docker system prune -a`",
	}
}

func memTotal(meminfo string) int64 {
	for line := range strings.Lines(meminfo) {
		fields := strings.Fields(line)
		if len(fields) >= 2 && fields[0] == "MemTotal:" {
			kb, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return 0
			}
			return kb << 10
		}
	}
	return 0
}

// addresses are the CIDR strings of interfaces that others can reach: not
// loopback, not link-local, not the bridges and links of container engines.
func addresses() ([]string, error) {
	out := []string{}
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 || i.Flags&net.FlagUp == 0 || ofContainers.MatchString(i.Name) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil { // it went away meanwhile
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
				out = append(out, n.String())
			}
		}
	}
	return out, nil
}

// ofContainers matches the interfaces that the Docker Engine makes.
var ofContainers = regexp.MustCompile(`^(docker0|docker_gwbridge|br-[0-9a-f]{12}|veth[0-9a-f]+)$`)

// BootID names this boot of the host. The kernel's own id alone is not enough
// where the "host" is a container that was restarted: the start of its first
// process tells those apart.
func BootID(root fs.FS) (string, error) {
	id, err := fs.ReadFile(root, "proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	start, err := StartTime(root, 1)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(id)) + "-" + start, nil
}

// StartTime is when a process was started, in clock ticks after the boot, as
// the kernel prints it; together with the pid it names a process.
func StartTime(root fs.FS, pid int) (string, error) {
	stat, err := fs.ReadFile(root, fmt.Sprintf("proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("read process %d: %w", pid, err)
	}
	// The name in parentheses may hold anything; field 22 is the 20th after it.
	_, after, ok := cutLast(string(stat), ")")
	fields := strings.Fields(after)
	if !ok || len(fields) < 20 {
		return "", fmt.Errorf("read process %d: unexpected format", pid)
	}
	return fields[19], nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// PreparedName is the file that cloudinit's script leaves behind once Docker is
// as it is to stay.
const PreparedName = "var/lib/dstack-prepared"

// Preparing says that cloud-init still sets the host up, below root: it runs,
// and has not said that all that matters to us is done.
func Preparing(root fs.FS) bool {
	exists := func(name string) bool {
		_, err := fs.Stat(root, name)
		return err == nil
	}
	return exists("run/cloud-init/status.json") && !exists("run/cloud-init/result.json") && !exists(PreparedName)
}
