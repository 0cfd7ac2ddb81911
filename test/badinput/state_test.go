//go:build e2e

package badinput

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"dstack/test/lab"
)

// files gives mode and digest of everything below a folder, without locks.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || strings.HasSuffix(path, ".lock") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		digest := ""
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(data)
			digest = hex.EncodeToString(sum[:])
		}
		found[path] = fmt.Sprint(info.Mode(), " ", digest)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// unchanged compares a folder with what it was when unchanged was called.
func unchanged(t *testing.T, dir string) func() {
	t.Helper()
	before := files(t, dir)
	return func() {
		t.Helper()
		if diff := cmp.Diff(before, files(t, dir)); diff != "" {
			t.Errorf("%s has changed (-before +after):\n%s", dir, diff)
		}
	}
}

// quiet compares what the shared server recorded with what it had recorded
// when quiet was called: an event comes with each change.
func quiet(t *testing.T, s *lab.Server) func() {
	t.Helper()
	latest := func() string {
		var events []struct {
			ID string `json:"id"`
		}
		if err := s.Call(t.Context(), "events/list", map[string]any{"limit": 1}, &events); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(events)
	}
	before := latest()
	return func() {
		t.Helper()
		if after := latest(); after != before {
			t.Errorf("the server changed something: event %s after %s", after, before)
		}
	}
}

// disk mounts an empty disk of some megabytes at dir.
func disk(t *testing.T, dir string, megabytes int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		t.Fatalf("mount a disk (needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// remount changes a disk: "size=8m", or its flags.
func remount(t *testing.T, dir string, flags uintptr, options string) {
	t.Helper()
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT|flags, options); err != nil {
		t.Fatal(err)
	}
}

// fill takes all space of a disk, and gives back what the returned function
// is called for.
func fill(t *testing.T, dir string, leave int64) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	size, err := f.Seek(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(max(0, size-leave)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}
