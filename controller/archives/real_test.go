//go:build e2e

package archives

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dstack/controller/objects"
	"dstack/durable/blobs"
	"dstack/test/storages"
)

func openBucket(t *testing.T, st *storages.Storage, name string) *objects.Bucket {
	t.Helper()
	st.Make(t, name)
	for _, v := range st.Env {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	target, err := objects.Parse(st.URL(name, ""))
	if err != nil {
		t.Fatal(err)
	}
	b, err := objects.Open(t.Context(), target, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func put(t *testing.T, s *Store, data string) {
	t.Helper()
	if n, err := s.Put(t.Context(), sum(data), strings.NewReader(data)); err != nil || n != int64(len(data)) {
		t.Fatalf("%d bytes, %v", n, err)
	}
}

func get(t *testing.T, s *Store, hash string) (string, error) {
	t.Helper()
	r, _, err := s.Open(t.Context(), hash)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(r)
	return string(data), errors.Join(err, r.Close())
}

// left are the files on the disk.
func left(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return names
}

func keys(t *testing.T, b *objects.Bucket) (all []string) {
	t.Helper()
	if err := b.List(t.Context(), "", func(o objects.Object) { all = append(all, o.Key) }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// TestArchives on each storage: what is whole and right is in the bucket alone,
// what is not is nowhere.
func TestArchives(t *testing.T) {
	for scheme, start := range storages.All() {
		t.Run(scheme, func(t *testing.T) {
			st := start(t)
			b := openBucket(t, st, "bucket")
			dir := t.TempDir()
			s := New(dir, b, "id")
			big := strings.Repeat("0123456789abcdef", 300<<10)
			put(t, s, big)
			put(t, s, "")
			_, err := s.Put(t.Context(), sum("one"), strings.NewReader("two"))
			if _, ok := errors.AsType[*blobs.MismatchError](err); !ok {
				t.Errorf("wrong hash: %v", err)
			}
			cut := io.MultiReader(strings.NewReader("thr"), failing{})
			if _, err := s.Put(t.Context(), sum("three"), cut); !errors.Is(err, errCut) {
				t.Errorf("broken upload: %v", err)
			}
			want := []string{"data/id/files/" + sum(big), "data/id/files/" + sum("")}
			slices.Sort(want)
			if got := keys(t, b); !slices.Equal(got, want) {
				t.Errorf("in the bucket: %v", got)
			}
			if files := left(t, dir); len(files) > 0 {
				t.Errorf("on the disk: %v", files)
			}
			for _, data := range []string{big, ""} {
				if got, err := get(t, s, sum(data)); err != nil || got != data {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			}
			for _, hash := range []string{sum("one"), "../x", ""} {
				if _, err := get(t, s, hash); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%q: %v", hash, err)
				}
			}
			has(t, s, sum(big), true)
			has(t, s, sum("one"), false)
			outage(t, st, s)
		})
	}
}

func has(t *testing.T, s *Store, hash string, want bool) {
	t.Helper()
	if got, err := s.Has(t.Context(), hash); err != nil || got != want {
		t.Errorf("has %.8s: %t, %v", hash, got, err)
	}
}

var errCut = errors.New("cut")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errCut }

// outage: without the storage nothing is taken for kept or for gone, in the
// middle of it or before.
func outage(t *testing.T, st *storages.Storage, s *Store) {
	t.Helper()
	fault := func(what string, err error) {
		t.Helper()
		if f, ok := errors.AsType[*objects.Fault](err); !ok || f.Kind != objects.KindUnreachable {
			t.Errorf("%s: %v", what, err)
		}
	}
	big := strings.Repeat("0123456789abcdef", 1<<20)
	put(t, s, big)
	r, _, err := s.Open(t.Context(), sum(big))
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.CopyN(io.Discard, r, 1000)
	st.Proxy.SetCut(true)
	if _, ended := io.Copy(io.Discard, r); err != nil || ended == nil {
		t.Errorf("cut in the middle: %v, %v", err, ended)
	}
	_ = r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = s.Put(ctx, sum("late"), strings.NewReader("late"))
	fault("put", err)
	_, err = s.Has(ctx, sum(big))
	fault("has", err)
	_, _, err = s.Open(ctx, sum(big))
	fault("open", err)
	st.Proxy.SetCut(false)
	if got, err := get(t, s, sum(big)); err != nil || got != big {
		t.Errorf("afterwards: %d bytes, %v", len(got), err)
	}
	put(t, s, "late")
}

// TestOnS3 is what does not depend on the storage.
func TestOnS3(t *testing.T) {
	st := storages.S3(t)
	for name, test := range map[string]func(*testing.T, *objects.Bucket){
		"without-and-back": withoutAndBack, "sweep": sweep, "damaged": damaged, "concurrent": concurrent,
	} {
		t.Run(name, func(t *testing.T) { test(t, openBucket(t, st, name)) })
	}
}

// withoutAndBack: archives are read from where they are.
func withoutAndBack(t *testing.T, b *objects.Bucket) {
	t.Helper()
	dir := t.TempDir()
	before := New(dir, nil, "id")
	put(t, before, "old")
	with := New(dir, b, "id")
	put(t, with, "new")
	for _, data := range []string{"old", "new"} {
		if got, err := get(t, with, sum(data)); err != nil || got != data {
			t.Errorf("with: %q, %v", got, err)
		}
		has(t, with, sum(data), true)
	}
	after := New(dir, nil, "id")
	has(t, after, sum("old"), true)
	has(t, after, sum("new"), false)
	put(t, after, "new")
	if got, err := get(t, New(dir, b, "id"), sum("new")); err != nil || got != "new" {
		t.Errorf("back: %q, %v", got, err)
	}
}

// sweep: only what no row names goes, and only of this server.
func sweep(t *testing.T, b *objects.Bucket) {
	t.Helper()
	s := New(t.TempDir(), b, "id")
	for _, data := range []string{"used", "unused", "again"} {
		put(t, s, data)
	}
	put(t, New(t.TempDir(), b, "other"), "unused")
	if err := b.Put(t.Context(), "data/projects/main/codes/repo/"+sum("unused"), strings.NewReader("of 0.22.5")); err != nil {
		t.Fatal(err)
	}
	var asked []string
	used := func(_ context.Context, hashes []string) ([]string, error) {
		asked = append(asked, hashes...)
		put(t, s, "again") // while the database is asked
		return []string{sum("used")}, nil
	}
	if err := s.Sweep(t.Context(), time.Now(), used); err != nil || len(asked) > 0 {
		t.Errorf("a sweep at once: %v, asked for %v", err, asked)
	}
	// Another process put them, long ago.
	s = New(t.TempDir(), b, "id")
	if err := s.Sweep(t.Context(), time.Now().Add(2*time.Hour), used); err != nil || len(asked) != 3 {
		t.Errorf("%v, asked for %v", err, asked)
	}
	want := []string{
		"data/id/files/" + sum("again"), "data/id/files/" + sum("used"), "data/other/files/" + sum("unused"),
		"data/projects/main/codes/repo/" + sum("unused"),
	}
	slices.Sort(want)
	if got := keys(t, b); !slices.Equal(got, want) {
		t.Errorf("left: %v", got)
	}
}

// damaged: an object that is not what its name promises is never given
// away whole, and is put again by the next upload.
func damaged(t *testing.T, b *objects.Bucket) {
	t.Helper()
	s := New(t.TempDir(), b, "id")
	put(t, s, "good")
	if err := b.Put(t.Context(), "data/id/files/"+sum("good"), bytes.NewReader([]byte("evil"))); err != nil {
		t.Fatal(err)
	}
	has(t, s, sum("good"), true)
	_, err := get(t, s, sum("good"))
	if _, ok := errors.AsType[*blobs.MismatchError](err); !ok {
		t.Errorf("damaged: %v", err)
	}
	has(t, s, sum("good"), false)
	put(t, s, "good")
	has(t, s, sum("good"), true)
	if got, err := get(t, s, sum("good")); err != nil || got != "good" {
		t.Errorf("%q, %v", got, err)
	}
}

// concurrent: many put and sweep at once, and nothing that is used is lost.
func concurrent(t *testing.T, b *objects.Bucket) {
	t.Helper()
	s := New(t.TempDir(), b, "id")
	put(t, s, "x")
	s = New(t.TempDir(), b, "id")
	none := func(context.Context, []string) ([]string, error) { return nil, nil }
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			if i == 0 {
				if err := s.sweepBucket(t.Context(), time.Now().Add(2*time.Hour), none); err != nil {
					t.Error(err)
				}
				return
			}
			if _, err := s.Put(t.Context(), sum("x"), strings.NewReader("x")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	has(t, s, sum("x"), true)
}
