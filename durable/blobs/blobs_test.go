package blobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sum(data string) string {
	h := sha256.Sum256([]byte(data))
	return hex.EncodeToString(h[:])
}

func put(t *testing.T, s *Store, data string) {
	t.Helper()
	if n, err := s.Put(sum(data), strings.NewReader(data)); err != nil || n != int64(len(data)) {
		t.Fatalf("Put = %d, %v", n, err)
	}
}

func content(t *testing.T, s *Store, hash string) string {
	t.Helper()
	r, size, err := s.Open(hash)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil || int64(len(data)) != size {
		t.Fatalf("%d bytes of %d: %v", len(data), size, err)
	}
	return string(data)
}

// list is every file below the store's folder.
func list(t *testing.T, s *Store) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, filepath.Base(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPutOpen(t *testing.T) {
	t.Parallel()
	s := New(t.TempDir())
	put(t, s, "one")
	put(t, s, "one")
	put(t, s, "")
	if got := content(t, s, sum("one")); got != "one" {
		t.Errorf("content %q", got)
	}
	if got := content(t, s, sum("")); got != "" {
		t.Errorf("content %q", got)
	}
	for _, hash := range []string{sum("two"), "", "../../etc/passwd", strings.ToUpper(sum("one"))} {
		if _, _, err := s.Open(hash); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%q): %v", hash, err)
		}
	}
}

type broken struct{}

var errBroken = errors.New("broken")

func (broken) Read([]byte) (int, error) { return 0, errBroken }

func TestFailedPutLeavesNothing(t *testing.T) {
	t.Parallel()
	s := New(t.TempDir())
	_, err := s.Put("junk", strings.NewReader("one"))
	var wrong *MismatchError
	if !errors.As(err, &wrong) || wrong.Want != "junk" || wrong.Got != sum("one") {
		t.Errorf("other content: %v", err)
	}
	if _, err := s.Put(sum("one"), io.MultiReader(strings.NewReader("o"), broken{})); !errors.Is(err, errBroken) {
		t.Errorf("broken reader: %v", err)
	}
	if left := list(t, s); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	s := New(t.TempDir())
	none := func(context.Context, []string) ([]string, error) { return nil, nil }
	if err := s.Sweep(t.Context(), time.Now(), none); err != nil {
		t.Fatalf("a store without blobs: %v", err)
	}
	for _, data := range []string{"used", "unused", "new", "sent again"} {
		put(t, s, data)
	}
	if err := os.WriteFile(filepath.Join(s.incoming(), "rest"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	for _, path := range []string{s.path(sum("used")), s.path(sum("unused")), s.path(sum("sent again")), filepath.Join(s.incoming(), "rest")} {
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	err := s.Sweep(t.Context(), time.Now().Add(-time.Hour), func(_ context.Context, hashes []string) ([]string, error) {
		if len(hashes) != 3 {
			t.Errorf("asked for %v", hashes)
		}
		put(t, s, "sent again") // while the database is asked
		return []string{sum("used")}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{sum("used"): true, sum("new"): true, sum("sent again"): true}
	got := map[string]bool{}
	for _, name := range list(t, s) {
		got[name] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

func TestTrim(t *testing.T) {
	t.Parallel()
	s := New(t.TempDir())
	start := time.Now().Add(-time.Hour)
	for i, data := range []string{"1 old", "2 kept", "3 old", "4 new"} {
		put(t, s, data)
		at := start.Add(time.Duration(i) * time.Minute)
		if err := os.Chtimes(s.path(sum(data)), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if !s.Has(sum("4 new")) || s.Has(sum("none")) || s.Has("..") {
		t.Error("Has is wrong")
	}
	keep := func(hash string) bool { return hash == sum("2 kept") }
	left := func() (out []string) {
		for _, data := range []string{"1 old", "2 kept", "3 old", "4 new"} {
			if _, _, err := s.Open(sum(data)); err == nil {
				out = append(out, data)
			}
		}
		return out
	}
	for _, step := range []struct {
		limit int64
		want  []string
	}{{100, []string{"1 old", "2 kept", "3 old", "4 new"}}, {18, []string{"2 kept", "3 old", "4 new"}}, {0, []string{"2 kept", "4 new"}}} {
		if err := s.Trim(step.limit, time.Now().Add(-time.Minute), keep); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, left()); diff != "" {
			t.Errorf("limit %d (-want +got):\n%s", step.limit, diff)
		}
	}
}
