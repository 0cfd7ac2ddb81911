package unpack

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type entry struct {
	name, text, link string
	kind             byte
	mode             int64
}

func archive(t testing.TB, entries ...entry) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.text)), ModTime: time.Unix(1e9, 0)}
		switch {
		case e.kind == 0 && strings.HasSuffix(e.name, "/"):
			h.Typeflag = tar.TypeDir
		case e.kind == 0:
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// list is everything below root: mode, content or target.
func list(t testing.TB, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %o", strings.TrimPrefix(path, root+"/"), info.Mode().Perm())
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line = strings.TrimPrefix(path, root+"/") + " -> " + target
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + string(data)
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestInto(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	b := archive(t, entry{name: "a", text: "1"}, entry{name: "d/", mode: 0o500}, entry{name: "d/x", text: "2", mode: 0o755},
		entry{name: "no/parent", text: "3"}, entry{name: "l", link: "d/x", kind: tar.TypeSymlink}, entry{name: "h", link: "a", kind: tar.TypeLink},
		entry{name: "pipe", kind: tar.TypeFifo}, entry{name: "suid", mode: 0o4755})
	if err := Into(t.Context(), b, root, &Owner{os.Getuid(), os.Getgid()}); err != nil {
		t.Fatal(err)
	}
	want := []string{"a 644 1", "d 500", "d/x 755 2", "h 644 1", "l -> d/x", "no 755", "no/parent 644 3", "suid 755 "}
	if diff := cmp.Diff(want, list(t, root)); diff != "" {
		t.Errorf("unpacked (-want +got):\n%s", diff)
	}
	for _, name := range []string{"a", "d"} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || !info.ModTime().Equal(time.Unix(1e9, 0)) {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestAs(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	as := func(name string, merge bool, entries ...entry) {
		t.Helper()
		if err := As(t.Context(), archive(t, entries...), filepath.Join(root, name), merge, nil); err != nil {
			t.Fatal(err)
		}
	}
	as("one", false, entry{name: "file.txt", text: "1"})
	as("dir", false, entry{name: "src/"}, entry{name: "src/old", text: "o"})
	as("dir", false, entry{name: "src/"}, entry{name: "src/new", text: "n"}, entry{name: "src/hard", link: "src/new", kind: tar.TypeLink})
	as("both", false, entry{name: "x/"}, entry{name: "x/old", text: "o"}, entry{name: "x/f", text: "o"})
	as("both", true, entry{name: "y/"}, entry{name: "y/new", text: "n"}, entry{name: "y/f", text: "n"})
	as("was-dir", false, entry{name: "x/"})
	as("was-dir", false, entry{name: "x", text: "file"})
	want := []string{"both 755", "both/f 644 n", "both/new 644 n", "both/old 644 o", "dir 755", "dir/hard 644 n", "dir/new 644 n", "one 644 1", "was-dir 644 file"}
	if diff := cmp.Diff(want, list(t, root)); diff != "" {
		t.Errorf("unpacked (-want +got):\n%s", diff)
	}
}

// Whatever an archive has, nothing outside of its destination changes.
func TestEscapes(t *testing.T) {
	t.Parallel()
	for name, entries := range map[string][]entry{
		"up":             {{name: "../evil", text: "x"}},
		"up later":       {{name: "d/../../evil", text: "x"}},
		"absolute":       {{name: "/evil", text: "x"}},
		"through a link": {{name: "d/", mode: 0o755}, {name: "d/l", link: "../..", kind: tar.TypeSymlink}, {name: "d/l/evil", text: "x"}},
		"absolute link":  {{name: "l", link: "/", kind: tar.TypeSymlink}, {name: "l/evil", text: "x"}},
		"hard link":      {{name: "h", link: "../secret", kind: tar.TypeLink}},
		"two roots":      {{name: "a/", mode: 0o755}, {name: "b", text: "x"}},
	} {
		for _, as := range []bool{false, true} {
			if name == "two roots" && !as {
				continue
			}
			top := t.TempDir()
			if err := os.WriteFile(filepath.Join(top, "secret"), []byte("s"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(top, "in"), 0o755); err != nil {
				t.Fatal(err)
			}
			var err error
			if as {
				err = As(t.Context(), archive(t, entries...), filepath.Join(top, "in", "dest"), false, nil)
			} else {
				err = Into(t.Context(), archive(t, entries...), filepath.Join(top, "in"), nil)
			}
			if err == nil {
				t.Errorf("%s, as %v: no error", name, as)
			}
			for _, line := range list(t, top) {
				if strings.HasPrefix(line, "evil") || strings.HasPrefix(line, "secret") && line != "secret 600 s" {
					t.Errorf("%s, as %v: %s", name, as, line)
				}
			}
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, entry{name: "a/"}, entry{name: "a/b", text: "x"}, entry{name: "a/l", link: "..", kind: tar.TypeSymlink}).Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		top := t.TempDir()
		in := filepath.Join(top, "in")
		if err := os.Mkdir(in, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = As(t.Context(), bytes.NewReader(data), filepath.Join(in, "dest"), false, nil)
		entries, err := os.ReadDir(top)
		if err != nil || len(entries) != 1 {
			t.Fatalf("outside: %v, %v", entries, err)
		}
		if below, err := os.ReadDir(in); err != nil || len(below) > 1 {
			t.Fatalf("beside the destination: %v, %v", below, err)
		}
	})
}
