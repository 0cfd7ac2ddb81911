//go:build !windows

package cli

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// freeSpace is how many bytes this user may still write to a folder's disk.
func freeSpace(folder string) (uint64, error) {
	var disk unix.Statfs_t
	if err := unix.Statfs(folder, &disk); err != nil {
		return 0, fmt.Errorf("look at the disk: %w", err)
	}
	return disk.Bavail * uint64(disk.Bsize), nil // the type of Bsize differs between systems
}
