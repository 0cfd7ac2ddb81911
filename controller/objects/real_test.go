//go:build e2e

package objects_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/objects"
	"dstack/test/storages"
)

// open opens a bucket with the environment of its storage, as a program
// would; more are NAME=VALUE.
func open(t *testing.T, st *storages.Storage, bucket string, more ...string) (*objects.Bucket, error) {
	t.Helper()
	target, err := objects.Parse(st.URL(bucket, "some/path"))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, v := range slices.Concat(st.Env, more) {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
		t.Setenv(name, value) // the SDK of AWS asks the environment itself
	}
	b, err := objects.Open(t.Context(), target, func(name string) string { return env[name] })
	if err == nil {
		t.Cleanup(b.Close)
	}
	return b, err
}

func mustOpen(t *testing.T, st *storages.Storage, bucket string) *objects.Bucket {
	t.Helper()
	b, err := open(t, st, bucket)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(t *testing.T, b *objects.Bucket, key string) []byte {
	t.Helper()
	r, o, err := b.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || int64(len(data)) != o.Size {
		t.Fatalf("%d bytes of %d: %v", len(data), o.Size, err)
	}
	return data
}

// TestBucket: each storage does the same.
func TestBucket(t *testing.T) {
	for scheme, start := range storages.All() {
		t.Run(scheme, func(t *testing.T) {
			st := start(t)
			st.Make(t, "bucket")
			b := mustOpen(t, st, "bucket")
			ctx := t.Context()
			if err := b.Check(ctx, "some/path/"); err != nil {
				t.Fatal(err)
			}
			big := bytes.Repeat([]byte("0123456789abcdef"), 600<<10) // 9.4 MiB
			content := map[string][]byte{"some/path/a/1": []byte("one"), "some/path/a/2 ü+%": {}, "some/path/b": big, "other": []byte("other")}
			for key, data := range content {
				if err := b.Put(ctx, key, bytes.NewReader(data)); err != nil {
					t.Fatalf("put %s: %v", key, err)
				}
			}
			for key, data := range content {
				if got := read(t, b, key); !bytes.Equal(got, data) {
					t.Errorf("%s: %d bytes, want %d", key, len(got), len(data))
				}
				if o, err := b.Stat(ctx, key); err != nil || o.Size != int64(len(data)) || o.Version == "" || time.Since(o.Changed).Abs() > time.Hour {
					t.Errorf("stat %s: %+v, %v", key, o, err)
				}
			}
			sizes := map[string]int64{}
			if err := b.List(ctx, "some/", func(o objects.Object) { sizes[o.Key] = o.Size }); err != nil {
				t.Fatal(err)
			}
			want := map[string]int64{"some/path/a/1": 3, "some/path/a/2 ü+%": 0, "some/path/b": int64(len(big))}
			if diff := cmp.Diff(want, sizes); diff != "" {
				t.Errorf("list (-want +got):\n%s", diff)
			}
			if err := b.Put(ctx, "other", strings.NewReader("new")); err != nil || string(read(t, b, "other")) != "new" {
				t.Errorf("overwrite: %v", err)
			}
			for key := range maps.Keys(content) {
				for range 2 {
					if err := b.Delete(ctx, key); err != nil {
						t.Errorf("delete %s: %v", key, err)
					}
				}
			}
			_, _, err := b.Get(ctx, "other")
			_, statErr := b.Stat(ctx, "other")
			if !errors.Is(err, fs.ErrNotExist) || !errors.Is(statErr, fs.ErrNotExist) {
				t.Errorf("what is deleted: %v, %v", err, statErr)
			}
			swap(t, b)
			cut(t, st, b)
		})
	}
}

// swap: of two writers that saw the same version one is told.
func swap(t *testing.T, b *objects.Bucket) {
	t.Helper()
	ctx := t.Context()
	first, err := b.Write(ctx, "lease", []byte("1"), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write(ctx, "lease", []byte("2"), ""); !errors.Is(err, objects.ErrChanged) {
		t.Errorf("written over: %v", err)
	}
	second, err := b.Write(ctx, "lease", []byte("3"), first)
	if err != nil || second == first {
		t.Errorf("version %q after %q: %v", second, first, err)
	}
	if _, err := b.Write(ctx, "lease", []byte("4"), first); !errors.Is(err, objects.ErrChanged) {
		t.Errorf("written over another version: %v", err)
	}
	if data, version, err := b.Read(ctx, "lease"); err != nil || string(data) != "3" || version != second {
		t.Errorf("read %q of %q: %v", data, version, err)
	}
	if err := b.Remove(ctx, "lease", second); err != nil {
		t.Error(err)
	}
}

// cut: without a network each call is a sentence, and afterwards all is well.
func cut(t *testing.T, st *storages.Storage, b *objects.Bucket) {
	t.Helper()
	if err := b.Put(t.Context(), "kept", strings.NewReader("kept")); err != nil {
		t.Fatal(err)
	}
	st.Proxy.SetCut(true)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, _, get := b.Get(ctx, "kept")
	for name, err := range map[string]error{"get": get, "put": b.Put(ctx, "kept", strings.NewReader("other")), "list": b.List(ctx, "", func(objects.Object) {})} {
		if f, ok := errors.AsType[*objects.Fault](err); !ok || f.Kind != objects.KindUnreachable {
			t.Errorf("%s: %v", name, err)
		}
	}
	st.Proxy.SetCut(false)
	if got := read(t, b, "kept"); string(got) != "kept" {
		t.Errorf("kept %q", got)
	}
}

// TestFaults: what is wrong with a bucket has a kind and a sentence.
func TestFaults(t *testing.T) {
	for scheme, start := range storages.All() {
		t.Run(scheme, func(t *testing.T) {
			st := start(t)
			b := mustOpen(t, st, "nobucket")
			_, _, get := b.Get(t.Context(), "key")
			for name, err := range map[string]error{
				"check": b.Check(t.Context(), ""), "put": b.Put(t.Context(), "key", strings.NewReader("x")),
				"list": b.List(t.Context(), "", func(objects.Object) {}),
				"get":  get,
			} {
				f, ok := errors.AsType[*objects.Fault](err)
				// A storage of Google says the same of an absent object.
				if absent := name == "get" && errors.Is(err, fs.ErrNotExist); !absent && (!ok || f.Kind != objects.KindNoBucket || !strings.Contains(err.Error(), "does not exist; create it, or correct the URL")) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}
