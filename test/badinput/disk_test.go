//go:build e2e

package badinput

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// TestFullDiskAtStart starts servers on a disk without space, new and used
// ones, at several places of the start: they refuse, and start as soon as
// there is space.
func TestFullDiskAtStart(t *testing.T) {
	good := newUsed(t)
	tests := map[string]struct {
		used bool
		left int64
		want string
	}{
		"new, nothing left":  {false, 0, "cannot start: write encryption key: <dir>/encryption.key: the disk is full (~"},
		"new, a bit left":    {false, 8 << 10, "cannot start: <dir>/data/sqlite.db: the disk is full (~"},
		"new, more left":     {false, 100 << 10, "cannot start: <dir>/data/sqlite.db: the disk is full (~"},
		"used, nothing left": {true, 0, "cannot start: <dir>/data/sqlite.db: the disk is full (~"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			dir := filepath.Join(top, "server")
			disk(t, dir, 4)
			if tt.used {
				good.copyTo(t, dir)
			}
			free := fill(t, dir, tt.left)
			data := filepath.Join(dir, "data", "sqlite.db")
			before, _ := os.ReadFile(data)
			got := serve(t, dir, nil)
			refuses(t, got, strings.ReplaceAll(tt.want, "<dir>", dir))
			if !strings.Contains(got.Stderr, "Free some space; nothing was changed.") {
				t.Errorf("no remedy: %s", got.Stderr)
			}
			if after, _ := os.ReadFile(data); tt.used && !bytes.Equal(before, after) {
				t.Error("the database has changed")
			}
			free()
			runOnce(t, top)
		})
	}
}

// TestReadOnlyDisk starts servers where nothing can be written.
func TestReadOnlyDisk(t *testing.T) {
	good := newUsed(t)
	tests := map[string]struct {
		used  bool
		below string
		want  string
	}{
		"new":    {false, "", "cannot start: write encryption key: <dir>/encryption.key: not writable (~"},
		"folder": {false, "x", "cannot make folder <dir>: read-only file system; choose another one with DSTACK_SERVER_DIR"},
		"used":   {true, "", "cannot start: <dir>/data/sqlite.db: not writable (~"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			disk(t, top, 4)
			dir := filepath.Join(top, tt.below)
			if tt.used {
				good.copyTo(t, dir)
			}
			remount(t, top, unix.MS_RDONLY, "")
			got := serve(t, dir, nil)
			refuses(t, got, strings.ReplaceAll(tt.want, "<dir>", dir))
			if !strings.Contains(got.Stderr, "DSTACK_SERVER_DIR") {
				t.Errorf("no remedy: %s", got.Stderr)
			}
		})
	}
}

// TestDiskFillsUp fills the disks of the database and of the logs while the
// server runs and a job prints. Requests are refused with a sentence, reads
// go on, and when there is space again everything works: the log is whole.
func TestDiskFillsUp(t *testing.T) {
	dir := t.TempDir()
	data, logs := filepath.Join(dir, "server", "data"), filepath.Join(dir, "server", "projects")
	disk(t, data, 4)
	disk(t, logs, 1)
	s, err := lab.StartServer(t.Context(), dir, []string{processes}, "--local")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := dismiss(t.Context(), s); err != nil {
			t.Error(err)
		}
	}()
	if err := waitForHost(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	const line = "a line of a job that prints more than the disk of the logs takes\n"
	if _, err := s.Submit(t.Context(), "talker", map[string]any{"commands": []string{"yes '" + strings.TrimSpace(line) + "' | head -n 30000"}}); err != nil {
		t.Fatal(err)
	}
	waitForLog(t, s, "free some space, the log then goes on")

	free := fill(t, data, 0)
	c := call{dir: dir, env: []string{"HOME=" + filepath.Join(dir, "home")}}
	const full = "The server's disk is full. Free some space on it and try again. Nothing was changed."
	write(t, filepath.Join(dir, "other.yml"), "type: task\nname: other\ncommands: [echo other]\n"+small)
	got := c.dstack(t, "apply", "-f", "other.yml", "-y", "-d")
	if got.Exit != 1 || strings.TrimSpace(got.Stderr) != full {
		t.Errorf("apply on a full disk: %+v", got)
	}
	status, detail := post(t, s, "/api/project/main/runs/stop", encode(t, map[string]any{"runs_names": []string{"talker"}, "abort": true}), jsonType)
	if status != http.StatusBadRequest || !strings.Contains(detail, full) {
		t.Errorf("stop on a full disk: %d %s", status, detail)
	}
	if got := c.dstack(t, "ps"); got.Exit != 0 || !strings.Contains(got.Stdout, "talker") || strings.Contains(got.Stdout, "other") {
		t.Errorf("ps on a full disk: %+v", got)
	}
	free()
	remount(t, logs, 0, "size=8m")

	run, err := s.Finish(t.Context(), "talker", 30*time.Second)
	if err != nil || run.Status != api.RunDone {
		t.Fatalf("talker is %v, %v; want done", run.Status, err)
	}
	log, err := s.Logs(t.Context(), run)
	if want := bytes.Repeat([]byte(line), 30000); err != nil || !bytes.Equal(normal(log), want) {
		t.Errorf("log of %d bytes, %v; want %d bytes", len(normal(log)), err, len(want))
	}
	if got := c.dstack(t, "apply", "-f", "other.yml", "-y"); got.Exit != 0 || !strings.Contains(got.Stdout, "other") {
		t.Errorf("apply with space again: %+v", got)
	}
}

// normal undoes what a terminal does to line ends.
func normal(log []byte) []byte { return bytes.ReplaceAll(log, []byte("\r\n"), []byte("\n")) }

func waitForLog(t *testing.T, s *lab.Server, text string) {
	t.Helper()
	err := lab.Wait(t.Context(), 20*time.Second, text, func(context.Context) error {
		if !strings.Contains(s.Log(), text) {
			return errors.New("not in the log yet")
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Log())
	}
}
