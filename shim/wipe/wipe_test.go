package wipe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// nest makes folders in each other, deeper than a path can be long.
func nest(t *testing.T, dir string, depth int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		if err := unix.Mkdirat(fd, "d", 0o700); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
}

func TestAll(t *testing.T) {
	for name, fill := range map[string]func(t *testing.T, dir string){
		"nothing": func(*testing.T, string) {},
		"wide": func(t *testing.T, dir string) {
			for i := range 3 * batch {
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		},
		"deep": func(t *testing.T, dir string) { nest(t, dir, 3000) },
		"link out": func(t *testing.T, dir string) {
			if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o700); err != nil {
				t.Fatal(err)
			}
			for _, link := range []string{"x", "a/x", "a/b/x"} {
				if err := os.Symlink(filepath.Dir(dir), filepath.Join(dir, link)); err != nil {
					t.Fatal(err)
				}
			}
		},
		"closed": func(t *testing.T, dir string) {
			if err := os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o700); err != nil {
				t.Fatal(err)
			}
			for d, mode := range map[string]os.FileMode{"a/b": 0, ".": 0o500} {
				if err := os.Chmod(filepath.Join(dir, d), mode); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			dir := filepath.Join(top, "dir")
			if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(top, "kept"), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			fill(t, dir)
			var was unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
				t.Fatal(err)
			}
			few := unix.Rlimit{Cur: 64, Max: was.Max}
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
				t.Fatal(err)
			}
			err := All(dir)
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
				t.Fatal(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the folder is still there: %v", err)
			}
			if _, err := os.Lstat(filepath.Join(top, "kept")); err != nil {
				t.Errorf("something else is gone: %v", err)
			}
			if err := All(dir); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
}
