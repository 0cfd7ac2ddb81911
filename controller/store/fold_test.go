package store

import (
	"database/sql"
	"errors"
	"os"
	"testing"
)

// TestFold puts all of a database into one file, and finds damage.
func TestFold(t *testing.T) {
	path := fresh(t)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, query := range []string{"PRAGMA wal_autocheckpoint = 0", "UPDATE users SET email = 'late'"} {
		if _, err := db.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	killed := t.TempDir() + "/sqlite.db"
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + suffix)
		if err = errors.Join(err, os.WriteFile(killed+suffix, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Fold(t.Context(), killed, "name"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(killed + "-wal"); !os.IsNotExist(err) {
		t.Errorf("its log is left: %v", err)
	}
	if got := raw(t, killed, "SELECT DISTINCT email FROM users"); len(got) != 1 || got[0] != "late" {
		t.Errorf("got %v", got)
	}
	data, err := os.ReadFile(killed)
	if err = errors.Join(err, os.WriteFile(killed, data[:len(data)/2], 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := Fold(t.Context(), killed, "name"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("half of it: %v", err)
	}
}
