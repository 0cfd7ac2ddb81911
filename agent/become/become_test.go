package become_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"dstack/agent/become"
)

// TestDo makes files as another user, many at once, and stays root elsewhere.
// It needs root.
func TestDo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for p := dir; p != "/"; p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, info.Mode()|0o011); err != nil {
			t.Fatal(err)
		}
	}
	shared := filepath.Join(dir, "shared")
	if err := errors.Join(os.Mkdir(shared, 0o700), os.Chown(shared, 0, 12346), os.Chmod(shared, 0o770)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range uint32(100) {
		wg.Go(func() {
			c := &syscall.Credential{Uid: 12345 + i, Gid: 12345, Groups: []uint32{12346}}
			name := filepath.Join(shared, string(rune('A'+i)))
			err := become.Do(c, func() error {
				if _, err := os.ReadDir("/root"); !errors.Is(err, os.ErrPermission) {
					t.Errorf("/root: %v", err)
				}
				return os.WriteFile(name, nil, 0o600)
			})
			info, statErr := os.Stat(name)
			if err != nil || statErr != nil {
				t.Errorf("%v, %v", err, statErr)
				return
			}
			if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Uid != c.Uid || stat.Gid != c.Gid {
				t.Errorf("made by %+v", stat)
			}
			if _, err := os.ReadDir("/root"); err != nil {
				t.Errorf("not root any more: %v", err)
			}
		})
	}
	wg.Wait()
	want := errors.New("failed")
	for _, c := range []*syscall.Credential{nil, {Uid: 1}} {
		if err := become.Do(c, func() error { return want }); !errors.Is(err, want) {
			t.Errorf("%v: %v", c, err)
		}
	}
}
