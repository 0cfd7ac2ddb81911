//go:build e2e

package litestream

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"dstack/controller/objects"
	"dstack/controller/replication"
	"dstack/test/lab"
	"dstack/test/storages"
)

// legacyReplica puts a database that the real server of 0.22.5 made into a
// replica of Litestream 0.5, as its image does; it returns the database's folder.
// change is SQL that changes it before.
func legacyReplica(t *testing.T, st *storages.Storage, url, change string) (folder string) {
	t.Helper()
	text, err := os.ReadFile("../../controller/legacy/testdata/0.22.5.sql")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sqlite.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=wal_autocheckpoint(0)")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), string(text)+";"+change); err != nil {
		t.Fatal(err)
	}
	target, err := objects.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range st.Env {
		name, value, _ := strings.Cut(line, "=")
		t.Setenv(name, value)
	}
	r, err := replication.Open(t.Context(), replication.Options{
		Target: target, Getenv: os.Getenv, Database: path, Now: time.Now, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if err := r.Acquire(ctx, false); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Prepare(ctx, func(context.Context, string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }()
	if !r.Settle(ctx, 30*time.Second) {
		t.Error("it was not uploaded")
	}
	stop()
	if err := errors.Join(<-ran, db.Close(), r.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(path)
}

// TestTakeOver: a replica of 0.22.5, with its database or without, is taken
// over, and is ours from then on. Without the old key nothing is changed.
func TestTakeOver(t *testing.T) {
	st := storages.S3(t)
	st.Make(t, "bucket")
	for name, local := range map[string]bool{"restored": false, "here": true} {
		t.Run(name, func(t *testing.T) { takeOver(t, st, st.URL("bucket", name), local) })
	}
	t.Run("no key", func(t *testing.T) {
		url := st.URL("bucket", "plain")
		legacyReplica(t, st, url, "DELETE FROM secrets; DELETE FROM repo_creds; DELETE FROM backends; UPDATE users SET token = 'enc:identity:noname:' || id")
		dir := t.TempDir()
		if text := lab.Refused(t, dir, environment(st, url, "DSTACK_SERVER_ENCRYPTION_KEY=")); !strings.Contains(text, "set DSTACK_SERVER_ENCRYPTION_KEY") {
			t.Error(text)
		}
		if left, err := os.ReadDir(filepath.Join(dir, "server", "data")); err != nil || len(left) > 0 {
			t.Errorf("left %v, %v", left, err)
		}
	})
}

func takeOver(t *testing.T, st *storages.Storage, url string, local bool) {
	t.Helper()
	folder := legacyReplica(t, st, url, "")
	if text := lab.Refused(t, t.TempDir(), environment(st, url)); !strings.Contains(text, "Put the keys of 0.22.5 into encryption.keys") {
		t.Error(text)
	}
	const config = "projects: [{name: main}]\nencryption: {keys: [{type: aes, name: k1, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}\n"
	for n, taken := range []bool{true, false} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "server"), 0o700); err != nil {
			t.Fatal(err)
		}
		if taken && local {
			if err := os.CopyFS(filepath.Join(dir, "server", "data"), os.DirFS(folder)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "server", "config.yml"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		s := server(t, dir, environment(st, url), "--wait-for-lease")
		err := lab.Wait(t.Context(), 30*time.Second, "the old token", func(context.Context) error {
			if !strings.Contains(s.Log(), "The admin token is legacy-admin") {
				return fmt.Errorf("start %d: %s", n, s.Log())
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if got := strings.Contains(s.Log(), "Took over the database"); got != taken {
			t.Errorf("start %d: taken over: %v", n, got)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}
