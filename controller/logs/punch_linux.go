package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// errNoHoles means that the beginning of a file can't be given back here.
var errNoHoles = errors.New("this file system frees no part of a file")

// punch gives the space of a part of a file back; the rest stays where it is.
// A trial only finds out whether that works, in space that is not used.
func punch(f *os.File, offset, n int64, trial bool) error {
	if trial {
		info, err := f.Stat()
		if err != nil {
			return fmt.Errorf("look at log: %w", err)
		}
		offset, n = info.Size()+1<<30, 1
	}
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, n)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return errNoHoles
	}
	if err != nil {
		return fmt.Errorf("free part of log: %w", err)
	}
	return nil
}

// onDisk is how many bytes a file takes, holes left out.
func onDisk(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
