package replication

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// TestFolderNames: a folder's name is no reason to replicate another file.
func TestFolderNames(t *testing.T) {
	for _, name := range []string{"with space", "plus+", "[x", "\u00fc&\"'"} {
		t.Run(name, func(t *testing.T) {
			b := newBucket(t)
			dir := filepath.Join(t.TempDir(), name)
			left := filepath.Join(dir, ".restore-1")
			if err := os.MkdirAll(left, 0o700); err != nil {
				t.Fatal(err)
			}
			s := serve(t, b, filepath.Join(dir, "sqlite.db"))
			s.note(1)
			s.end()
			if _, err := os.Stat(left); err == nil {
				t.Error("what a start that was cut off left is still there")
			}
			s = serve(t, b, filepath.Join(t.TempDir(), "sqlite.db"))
			defer s.end()
			if n := s.notes(); n != 1 {
				t.Errorf("%d notes", n)
			}
		})
	}
	for _, name := range []string{"50%41", "what?", "a#b"} {
		_, err := Open(t.Context(), Options{Target: testTarget(t), Database: "/srv/" + name + "/sqlite.db", Now: time.Now, Log: zerolog.Nop()})
		if err == nil || !strings.Contains(err.Error(), "without ?, # and % in its name, unlike /srv/"+name+"; choose another one with DSTACK_SERVER_DIR") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
