package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// pack packs root and lists the archive: name, mode, link and content.
func pack(t *testing.T, root string) ([]string, Packed) {
	t.Helper()
	var b bytes.Buffer
	packed, err := Pack(t.Context(), &b, root, "")
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(b.Bytes()); hex.EncodeToString(sum[:]) != packed.Hash {
		t.Errorf("hash %s of other content", packed.Hash)
	}
	var out []string
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, packed
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%s %o %s", h.Name, h.Mode, data)
		if h.Typeflag == tar.TypeSymlink {
			line = h.Name + " -> " + h.Linkname
		}
		out = append(out, strings.TrimSpace(line))
	}
}

func TestPack(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	root := filepath.Join(top, "dir")
	write(t, top, map[string]string{
		"dir/b/two": "2", "dir/a": "1", "dir/.dstackignore": "*.log\n", "dir/x.log": "", "dir/.git/config": "", "dir/b/.git/config": "", "out": "far",
	})
	for name, target := range map[string]string{"dir/b/up": "../a", "dir/abs": filepath.Join(root, "a"), "dir/far": filepath.Join(top, "out"), "dir/gone": "b/none"} {
		if err := os.Symlink(target, filepath.Join(top, name)); err != nil {
			t.Fatal(err)
		}
	}
	socket, err := net.Listen("unix", filepath.Join(root, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := errors.Join(os.Chmod(filepath.Join(root, "a"), 0o755), os.Mkdir(filepath.Join(root, "empty"), 0o700)); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"dir/ 755", "dir/.dstackignore 644 *.log", "dir/a 755 1", "dir/abs -> a", "dir/b/ 755", "dir/b/.git/ 755", "dir/b/.git/config 644",
		"dir/b/two 644 2", "dir/b/up -> ../a", "dir/empty/ 700", "dir/far 644 far", "dir/gone -> b/none",
	}
	got, packed := pack(t, root)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{filepath.Join(root, "sock"), filepath.Join(root, "x.log")}, packed.Skipped); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
	if _, again := pack(t, root); again.Hash != packed.Hash {
		t.Error("the same files make another archive")
	}
}

func TestPackOneFile(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root, map[string]string{".gitignore": "*\n", "f.txt": "text"})
	if got, _ := pack(t, filepath.Join(root, "f.txt")); len(got) != 1 || got[0] != "f.txt 644 text" {
		t.Errorf("archive %v", got)
	}
}

func TestPackFails(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.Symlink("/none/at/all", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		root:                        "the symbolic link " + filepath.Join(root, "link") + " leads to nothing",
		filepath.Join(root, "none"): "no such file or directory",
	} {
		if _, err := Pack(t.Context(), io.Discard, path, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

func TestLargeFileTakesLittleMemory(t *testing.T) {
	root := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(root, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(root, 300<<20); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Pack(t.Context(), io.Discard, root, ""); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("packing allocated %d bytes", grown)
	}
}
