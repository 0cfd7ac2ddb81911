//go:build e2e

package litestream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dstack/test/lab"
	"dstack/test/storages"
)

// TestOlderCopy: a server that is killed under load goes on in its folder. A
// backup that somebody copies over its database afterwards, by hand, does not get
// over the newer states in the replica, which come back.
func TestOlderCopy(t *testing.T) {
	t.Parallel()
	st := storages.S3(t)
	st.Make(t, "bucket")
	env := environment(st, st.URL("bucket", "p"))
	s := server(t, t.TempDir(), env, "--wait-for-lease")
	backup := filepath.Join(t.TempDir(), "backup.db")
	if got, err := s.CLI(t.Context(), t.TempDir(), "server", "backup", backup); err != nil || got.Exit != 0 {
		t.Fatalf("backup: %+v, %v", got, err)
	}
	all := notes{}
	for round := range number(t, "LITESTREAM_ROUNDS", 1) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second+time.Duration(rand.Int64N(int64(2*time.Second))))
		written := make(chan struct{})
		go func() {
			defer close(written)
			all.write(ctx, s, fmt.Sprint("r", round))
		}()
		<-ctx.Done()
		err := s.Kill()
		cancel()
		<-written
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		all.check(t, s, time.Now()) // the folder has all
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Dir, "server", "data", "sqlite.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if text := lab.Refused(t, s.Dir, env); !strings.Contains(text, "an older one was put in the place of the one that it belongs to") || !strings.Contains(text, "`dstack server restore`") {
		t.Error(text)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	all.check(t, s, time.Now())
}
