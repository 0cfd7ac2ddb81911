//go:build e2e

package takeover

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dstack/test/lab"
)

// mounted makes a folder that is a file system of its own.
func mounted(t *testing.T, options string) (folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "server")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	mount(t, "-t", "tmpfs", "-o", options, "tmpfs", folder)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", folder).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return folder
}

func mount(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		t.Fatalf("mount %s: %v: %s", args, err, out)
	}
}

func digest(t *testing.T, path string) [32]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}

// starts starts our server in a folder and stops it.
func starts(t *testing.T, folder string) (log string) {
	t.Helper()
	s, err := lab.StartServer(t.Context(), filepath.Dir(folder), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	return s.Log()
}

// TestDiskFull takes over a folder on disks of any size: one sentence says that
// it is full, the old database is there, and with more space it goes on. The
// logs take more than all else.
func TestDiskFull(t *testing.T) {
	folder := mounted(t, "size=64m")
	lived(t, folder)
	log, err := filepath.Glob(filepath.Join(folder, "projects/main/logs/dev/*/job.log"))
	if err != nil || len(log) != 1 {
		t.Fatal(log, err)
	}
	if err := os.WriteFile(log[0], []byte(strings.Repeat(jobLog, 20000)), 0o600); err != nil {
		t.Fatal(err)
	}
	database := filepath.Join(folder, "data", "sqlite.db")
	kept := filepath.Join(folder, "data", "sqlite-0.22.5.db")
	before := digest(t, database)
	used := size(t, folder)
	stages := map[string]int{}
	for free := 64 << 10; free < 3<<20; free += free / 2 {
		mount(t, "-o", fmt.Sprintf("remount,size=%d", used+free), folder)
		text := startRefused(t, folder)
		contains(t, text, "cannot start: ", "is full")
		if _, sentence, _ := strings.Cut(strings.TrimSpace(text), "cannot start: "); strings.Contains(sentence, "\n") {
			t.Errorf("it is more than a sentence: %s", text)
		}
		if _, err := os.Stat(kept); err != nil {
			stages["database"]++
			if digest(t, database) != before {
				t.Fatal("the old database was changed")
			}
		} else {
			stages["logs"]++
		}
	}
	if stages["database"] == 0 || stages["logs"] == 0 {
		t.Errorf("it was full in %v", stages)
	}
	mount(t, "-o", "remount,size=64m", folder)
	contains(t, starts(t, folder), "Took over the logs of dstack 0.22.5")
	if digest(t, kept) != before {
		t.Error("the old database was changed")
	}
}

// size is what is used of the disk that a folder is.
func size(t *testing.T, folder string) int {
	t.Helper()
	out, err := exec.Command("du", "-s", "-B1", folder).Output()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if _, err := fmt.Sscan(string(out), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestReadOnly leaves a folder alone that nobody may write to.
func TestReadOnly(t *testing.T) {
	folder := mounted(t, "size=64m")
	lived(t, folder)
	before := digest(t, filepath.Join(folder, "data", "sqlite.db"))
	mount(t, "-o", "remount,ro", folder)
	contains(t, startRefused(t, folder), "cannot start: ", "not writable")
	mount(t, "-o", "remount,rw", folder)
	contains(t, starts(t, folder), "Took over the database of dstack 0.22.5")
	if digest(t, filepath.Join(folder, "data", "sqlite-0.22.5.db")) != before {
		t.Error("the old database was changed")
	}
}
