package replication

import (
	"database/sql"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/benbjohnson/litestream/file"
)

// TestLitestream03 restores a replica that Litestream 0.3.13 wrote: one
// snapshot, and six pieces of the log. The library does so itself where its
// client can, which is what S3 has; elsewhere we read for it.
func TestLitestream03(t *testing.T) {
	const made = "testdata/v03"
	m := newMemory()
	err := fs.WalkDir(os.DirFS(made), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(made, path))
		m.last++
		m.data["path/"+path], m.versions["path/"+path] = data, m.last
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	target := testTarget(t)
	ours := &remote{bucket: m, client: nothing{file.NewReplicaClient(t.TempDir())}}
	for name, client := range map[string]litestream.ReplicaClient{"library": file.NewReplicaClient(made), "ours": ours.withV3(target)} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sqlite.db")
			if err := restore(t.Context(), target, client, path, time.Time{}, slog.New(slog.DiscardHandler), accept); err != nil {
				t.Fatal(err)
			}
			db, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			n := 0
			if err := db.QueryRow("SELECT count(*) FROM notes").Scan(&n); err != nil || n != 41 {
				t.Errorf("%d notes, %v; want 41", n, err)
			}
		})
	}
}

// nothing hides what a client can do besides.
type nothing struct{ litestream.ReplicaClient }
