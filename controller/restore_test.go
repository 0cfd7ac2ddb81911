package controller

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dstack/controller/store"
)

// openNamed opens a database, in which a server's id is the name it got first.
func openNamed(t *testing.T, path, name string, replicated bool) (s *store.Store, found string) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Path: path, Replicated: replicated})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Write(t.Context(), func(tx *store.Tx) error {
		found, err = tx.ServerID(name)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return s, found
}

// named says what name a database has.
func named(t *testing.T, path string) string {
	t.Helper()
	s, name := openNamed(t, path, "none", false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

// crashed is a database whose server was killed: its last changes are in the
// log beside it.
func crashed(t *testing.T, path, name string) {
	t.Helper()
	live := filepath.Join(t.TempDir(), "live.db")
	openNamed(t, live, name, true)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(live + suffix)
		if err != nil || len(data) == 0 {
			t.Fatalf("%d bytes, %v", len(data), err)
		}
		if err := os.WriteFile(path+suffix, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func restored(t *testing.T, home, from string) (path string, err error) {
	t.Helper()
	cfg, _ := testConfig(t, home)
	cfg.Settings.EncryptionKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	return cfg.Settings.databasePath(), Restore(context.Background(), cfg, from, time.Time{})
}

// TestRestoreFile: a backup comes back whole, whatever lies around.
func TestRestoreFile(t *testing.T) {
	backup := filepath.Join(t.TempDir(), "backup.db")
	live := filepath.Join(t.TempDir(), "sqlite.db")
	openNamed(t, live, "backup", true)
	if err := store.Backup(t.Context(), live, backup); err != nil {
		t.Fatal(err)
	}

	t.Run("beside the log of a database that is gone", func(t *testing.T) {
		home := t.TempDir()
		cfg, _ := testConfig(t, home)
		path := cfg.Settings.databasePath()
		crashed(t, path, "gone")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := restored(t, home, backup); err != nil {
			t.Fatal(err)
		}
		if name := named(t, path); name != "backup" {
			t.Errorf("there is the database of %s", name)
		}
	})
	t.Run("beside the state of a replication", func(t *testing.T) {
		home := t.TempDir()
		cfg, _ := testConfig(t, home)
		state := filepath.Join(filepath.Dir(cfg.Settings.databasePath()), ".sqlite.db-litestream")
		if err := os.MkdirAll(filepath.Join(state, "ltx", "0"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := restored(t, home, backup); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(state); err == nil {
			t.Error("the backup counts as what the replica has, and would take its place")
		}
	})
	t.Run("a database of a server that was killed", func(t *testing.T) {
		from := filepath.Join(t.TempDir(), "copy.db")
		crashed(t, from, "killed")
		path, err := restored(t, t.TempDir(), from)
		if err != nil {
			t.Fatal(err)
		}
		if name := named(t, path); name != "killed" {
			t.Errorf("there is the database of %s", name)
		}
	})
}

// TestRestoreFileRefused: what is no whole database leaves nothing.
func TestRestoreFileRefused(t *testing.T) {
	live := filepath.Join(t.TempDir(), "sqlite.db")
	openNamed(t, live, "backup", true)
	backup := filepath.Join(t.TempDir(), "backup.db")
	if err := store.Backup(t.Context(), live, backup); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(whole)
	for i := len(damaged) / 2; i < len(damaged)/2+8192; i++ {
		damaged[i] ^= 0x55
	}
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"empty":       {nil, "is empty"},
		"half":        {whole[:len(whole)/2], "the database is damaged"},
		"damaged":     {damaged, "the database is damaged"},
		"no database": {[]byte(strings.Repeat("text ", 2000)), "the database is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			from := filepath.Join(t.TempDir(), "backup.db")
			if err := os.WriteFile(from, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			path, err := restored(t, t.TempDir(), from)
			if err == nil || !strings.Contains(err.Error(), from) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %s", err, tt.want)
			}
			if left, err := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// TestRestoreHidesSecrets: a URL with a password is refused without it.
func TestRestoreHidesSecrets(t *testing.T) {
	_, err := restored(t, t.TempDir(), "s3://id:hidden@bucket/path")
	if err == nil || !strings.Contains(err.Error(), "--from: a URL must not hold a password") || strings.Contains(err.Error(), "hidden") {
		t.Error(err)
	}
}
