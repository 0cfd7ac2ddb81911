package replication

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// TestHistory: every state of the last 24 hours can be restored, at any time
// of the day.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(t)
		path := filepath.Join(t.TempDir(), "sqlite.db")
		b.ReplicaClient = slowly{b.ReplicaClient}
		r, _ := open1(t, b, path)
		if err := r.Acquire(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Prepare(t.Context(), accept); err != nil {
			t.Fatal(err)
		}
		db, err := r.start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s := &server{t: t, r: r, db: openDB(t, path)}
		s.exec("CREATE TABLE notes (n INTEGER PRIMARY KEY)")
		var at []time.Time // after at[n] there are n+1 notes
		for hour := range 54 {
			s.note(hour)
			if err := db.SyncAndWait(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			at = append(at, time.Now())
			time.Sleep(59 * time.Minute)
			if hour >= 23 {
				restoresTo(t, b, at[hour-23], hour-23+1)
			}
		}
		if err := s.db.Close(); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// slowly is a storage that takes a second for an upload.
type slowly struct{ litestream.ReplicaClient }

func (s slowly) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	time.Sleep(time.Second)
	return s.ReplicaClient.WriteLTXFile(ctx, level, minTXID, maxTXID, r)
}

// restoresTo demands a number of notes at a time.
func restoresTo(t *testing.T, b *bucket, at time.Time, want int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sqlite.db")
	if err := restore(t.Context(), testTarget(t), b, path, at, slog.New(slog.DiscardHandler), accept); err != nil {
		t.Errorf("at %s it is not possible to go back to %s: %v", time.Now(), at, err)
		return
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	got := 0
	if err := db.QueryRow("SELECT count(*) FROM notes").Scan(&got); err != nil || got != want {
		t.Errorf("at %s there are %d notes, want %d: %v", at, got, want, err)
	}
}
