package health

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// recordSize is the longest record of the kernel's log in bytes.
	recordSize = 8 << 10
	// maxRecords is more than the ring of any kernel holds.
	maxRecords = 1 << 18
)

// KernelLog reads what NVIDIA's driver wrote to the kernel's log, usually
// /dev/kmsg, since the boot or since the log was cleared. A host without that
// device has an empty one.
func KernelLog(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("open %s: %w", path, err)
	}
	text, err := records(fd)
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return text, nil
}

func records(fd int) (string, error) {
	// To the first record after the last `dmesg --clear`.
	if _, err := unix.Seek(fd, 0, unix.SEEK_DATA); err != nil && !errors.Is(err, unix.ENXIO) {
		return "", err //nolint:wrapcheck // wrapped by the caller
	}
	var kept strings.Builder
	buf := make([]byte, recordSize)
	for range maxRecords {
		n, err := unix.Read(fd, buf) // one record each
		switch {
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR), errors.Is(err, unix.EINVAL):
			continue // overwritten meanwhile; too long
		case errors.Is(err, unix.EAGAIN), err == nil && n == 0:
			return kept.String(), nil
		case err != nil:
			return "", err //nolint:wrapcheck // wrapped by the caller
		}
		if record := string(buf[:n]); strings.Contains(record, "NVRM: Xid") {
			kept.WriteString(record)
		}
	}
	return kept.String(), nil
}
