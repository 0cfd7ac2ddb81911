//go:build e2e

// Package litestream runs real servers against real programs with the
// protocols of S3, Google Cloud Storage and Azure Blob Storage.
package litestream

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // looks at copies of the database

	"dstack/protocol/api"
	"dstack/test/lab"
	"dstack/test/storages"
)

// key is the servers' encryption key: it is in their environment only.
const key = "DSTACK_SERVER_ENCRYPTION_KEY=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// quick are the intervals of the promise: what was acknowledged more than a
// second before a crash is there.
var quick = []string{"LITESTREAM_MONITOR_INTERVAL=250ms", "LITESTREAM_SYNC_INTERVAL=250ms", key}

// environment is that of a server with a replica.
func environment(s *storages.Storage, url string, more ...string) []string {
	return slices.Concat(s.Env, quick, []string{"LITESTREAM_REPLICA_URL=" + url}, more)
}

// server starts one and ends it after the test.
func server(t *testing.T, dir string, env []string, args ...string) *lab.Server {
	t.Helper()
	s, err := lab.StartServer(t.Context(), dir, env, args...)
	t.Cleanup(func() {
		_ = s.Kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", dir, s.Log())
		}
	})
	if err != nil {
		t.Fatal(err, s.Log())
	}
	return s
}

// notes are secrets with the times of their acknowledgements.
type notes map[string]note

type note struct {
	value string
	at    time.Time
}

// write makes secrets until ctx ends or the server does not answer.
func (n notes) write(ctx context.Context, s *lab.Server, prefix string) {
	for i := 0; ctx.Err() == nil; i++ {
		name, value := fmt.Sprintf("%s-%d", prefix, i), fmt.Sprint(rand.Int64())
		if err := s.Call(ctx, "project/main/secrets/create_or_update", map[string]any{"name": name, "value": value}, nil); err != nil {
			return
		}
		n[name] = note{value, time.Now()}
		time.Sleep(4 * time.Millisecond) // a load, and no siege
	}
}

// check demands all that were acknowledged before a time, and that some of
// them decrypt. It keeps those that are there.
func (n notes) check(t *testing.T, s *lab.Server, before time.Time) {
	t.Helper()
	var list []api.Secret
	if err := s.Call(t.Context(), "project/main/secrets/list", map[string]any{}, &list); err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, x := range list {
		there[x.Name] = true
	}
	lost := 0
	for name, x := range n {
		if there[name] {
			continue
		}
		lost++
		if x.at.Before(before) {
			t.Errorf("%s was acknowledged %s before the limit and is gone", name, before.Sub(x.at))
		}
		delete(n, name)
	}
	t.Logf("%d notes, %d lost", len(n), lost)
	for _, name := range slices.Sorted(maps.Keys(n))[:min(20, len(n))] {
		var got api.Secret
		if err := s.Call(t.Context(), "project/main/secrets/get", map[string]any{"name": name}, &got); err != nil {
			t.Fatal(err)
		}
		if got.Value == nil || *got.Value != n[name].value {
			t.Errorf("%s: %v, want %s", name, got.Value, n[name].value)
		}
	}
}

// sound runs SQLite's own check on a copy that the server's program makes.
func sound(t *testing.T, s *lab.Server) {
	t.Helper()
	target := filepath.Join(t.TempDir(), "copy.db")
	got, err := s.CLI(t.Context(), t.TempDir(), "server", "backup", target)
	if err != nil || got.Exit != 0 {
		t.Fatalf("backup: %+v, %v", got, err)
	}
	db, err := sql.Open("sqlite", target)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	answer := ""
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&answer); err != nil || answer != "ok" {
		t.Errorf("integrity: %q, %v", answer, err)
	}
}

// TestKill ends servers at random moments, wipes their folders and starts
// them again.
func TestKill(t *testing.T) {
	rounds := map[string]int{"s3": number(t, "LITESTREAM_S3_ROUNDS", 2), "gcs": number(t, "LITESTREAM_ROUNDS", 1), "abs": number(t, "LITESTREAM_ROUNDS", 1)}
	for scheme, start := range storages.All() {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			st := start(t)
			st.Make(t, "bucket")
			s := server(t, t.TempDir(), environment(st, st.URL("bucket", "a/b")), "--wait-for-lease")
			all := notes{}
			for round := range rounds[scheme] {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second+time.Duration(rand.Int64N(int64(4*time.Second))))
				written := make(chan struct{})
				go func() {
					defer close(written)
					all.write(ctx, s, fmt.Sprint("r", round))
				}()
				<-ctx.Done()
				killed := time.Now()
				err := s.Kill()
				cancel()
				<-written
				if err != nil {
					t.Fatal(err)
				}
				if err := os.RemoveAll(filepath.Join(s.Dir, "server")); err != nil {
					t.Fatal(err)
				}
				if err := s.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(killed); took > 30*time.Second {
					t.Errorf("served again after %s", took)
				}
				all.check(t, s, killed.Add(-time.Second))
				sound(t, s)
				if t.Failed() {
					t.Fatalf("round %d", round)
				}
			}
		})
	}
}

// TestCleanStop: nothing is lost, and the lease is free at once.
func TestCleanStop(t *testing.T) {
	for scheme, start := range storages.All() {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			st := start(t)
			st.Make(t, "bucket")
			s := server(t, t.TempDir(), append(environment(st, st.URL("bucket", "")), "LITESTREAM_SYNC_INTERVAL=1m", "LITESTREAM_MONITOR_INTERVAL=1m"))
			all := notes{}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			all.write(ctx, s, "x")
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(s.Dir, "server")); err != nil {
				t.Fatal(err)
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			all.check(t, s, time.Now())
		})
	}
}

// health is what the server tells of its replication.
func health(t *testing.T, s *lab.Server) (lag float64, failing bool) {
	t.Helper()
	var answer struct {
		Status      string
		Replication struct {
			Lag     float64 `json:"lag_seconds"`
			Failing bool
		}
	}
	get(t, s.URL+"/healthcheck", &answer)
	if answer.Status != "running" {
		t.Fatalf("health: %+v", answer)
	}
	return answer.Replication.Lag, answer.Replication.Failing
}

// TestOutage: the storage can't be reached for longer than a lease lives; the
// server goes on, says so, and catches up.
func TestOutage(t *testing.T) {
	t.Parallel()
	outage := time.Duration(number(t, "LITESTREAM_OUTAGE_SECONDS", 20)) * time.Second
	for scheme, start := range storages.All() {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			st := start(t)
			st.Make(t, "bucket")
			s := server(t, t.TempDir(), environment(st, st.URL("bucket", "p"), "DSTACK_ENABLE_PROMETHEUS_METRICS=1"))
			all := notes{}
			st.Proxy.SetCut(true)
			ctx, cancel := context.WithTimeout(t.Context(), outage)
			defer cancel()
			all.write(ctx, s, "during")
			if ctx.Err() == nil {
				t.Fatal("the server does not serve on")
			}
			lag, failing := health(t, s)
			if !failing || lag < (outage/2).Seconds() {
				t.Errorf("after %s: lag %v, failing %v", outage, lag, failing)
			}
			if told := metric(t, s.URL, "dstack_server_replication_lag_seconds"); told < lag {
				t.Errorf("metrics tell of a lag of %v after %v", told, lag)
			}
			if n := metric(t, s.URL, "dstack_server_replication_failures_total"); n < 1 {
				t.Errorf("metrics tell of %v failures", n)
			}
			st.Proxy.SetCut(false)
			storages.Await(t, "the replica has caught up", func() bool {
				lag, failing := health(t, s)
				return lag < 2 && !failing
			})
			for _, want := range []string{"Changes don't reach the replica", "The lease of the replica can't be renewed", "The lease of the replica is renewed again", "The replica has caught up"} {
				if !strings.Contains(s.Log(), want) {
					t.Errorf("the log lacks %q", want)
				}
			}
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(s.Dir, "server")); err != nil {
				t.Fatal(err)
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			all.check(t, s, time.Now())
		})
	}
}

// writeOne makes one secret.
func (n notes) writeOne(t *testing.T, s *lab.Server, name string) {
	t.Helper()
	if err := s.Call(t.Context(), "project/main/secrets/create_or_update", map[string]any{"name": name, "value": name}, nil); err != nil {
		t.Fatal(err)
	}
	n[name] = note{name, time.Now()}
}

// number reads a size that `make long` sets.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n := 0
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatalf("%s=%s: %v", name, text, err)
	}
	return n
}
