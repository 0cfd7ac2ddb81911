package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func testSealer(t *testing.T, fill byte) *Sealer {
	t.Helper()
	k := AESKey{Name: "k"}
	for i := range k.Secret {
		k.Secret[i] = fill
	}
	s, err := NewSealer(k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCheckAndBackup: a copy made while the database is open is whole, and is
// judged as Open would, but stays as it is.
func TestCheckAndBackup(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	path, target := filepath.Join(dir, "sqlite.db"), filepath.Join(dir, "copy.db")
	s, err := Open(ctx, Options{Path: path, Sealer: testSealer(t, 1), Replicated: true})
	if err != nil {
		t.Fatal(err)
	}
	id := ""
	if err := s.Write(ctx, func(tx *Tx) (err error) { id, err = tx.ServerID("one"); return err }); err != nil {
		t.Fatal(err)
	}
	if err := Backup(ctx, path, target); err != nil {
		t.Fatal(err)
	}
	if err := Backup(ctx, path, target); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(ctx, target, "the copy", testSealer(t, 1)); err != nil {
		t.Error(err)
	}
	if err := Check(ctx, target, "the copy", testSealer(t, 2)); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}
	if after, err := os.ReadFile(target); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the copy changed: %v", err)
	}
	foreign := filepath.Join(dir, "foreign.db")
	if err := withFile(ctx, foreign, foreign, func(c *conn) error {
		_, err := c.raw.ExecContext(ctx, "CREATE TABLE alembic_version (n)")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := Check(ctx, foreign, "other", testSealer(t, 1)); !errors.Is(err, ErrForeign) {
		t.Errorf("foreign: %v", err)
	}
	for path, want := range map[string]bool{foreign: true, target: false} {
		if is, err := IsPython(ctx, path, path); err != nil || is != want {
			t.Errorf("%s is of Python: %v, %v", path, is, err)
		}
	}
	if err := Check(ctx, filepath.Join(dir, "none"), "none", testSealer(t, 1)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	copied, err := Open(ctx, Options{Path: target, Sealer: testSealer(t, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = copied.Close() }()
	if err := copied.Write(context.WithoutCancel(ctx), func(tx *Tx) error {
		got, err := tx.ServerID("another")
		if got != id {
			t.Errorf("server id %q, want %q", got, id)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
