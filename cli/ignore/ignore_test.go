package ignore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree makes files below a folder; a name that ends with a slash is a folder.
func tree(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// left walks as a packer does and gives what is not ignored.
func left(t *testing.T, d *Dir, prefix string) []string {
	t.Helper()
	entries, err := os.ReadDir(d.path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if e.Name() == ".git" || d.Ignores(e.Name(), e.IsDir()) {
			continue
		}
		if !e.IsDir() {
			out = append(out, prefix+e.Name())
			continue
		}
		below, err := d.Enter(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, left(t, below, prefix+e.Name()+"/")...)
	}
	return out
}

func open(t *testing.T, root, global string) *Dir {
	t.Helper()
	d, err := Open(root, global)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The same tree was packed by the client 0.22.5, with this result.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	tree(t, top, map[string]string{
		".gitignore":             "y.txt\n",
		"dir/.gitignore":         "*.log\nbuild/\n!important.log\n",
		"dir/.dstackignore":      "secret*\n",
		"dir/.ignore":            "x.txt\n",
		"dir/a.log":              "",
		"dir/important.log":      "",
		"dir/secret1":            "",
		"dir/x.txt":              "",
		"dir/y.txt":              "",
		"dir/.hidden":            "",
		"dir/keep/b.log":         "",
		"dir/keep/.dstackignore": "!secret1\n",
		"dir/keep/secret1":       "",
		"dir/keep/secret2":       "",
		"dir/build/z":            "",
		"dir/sub/w":              "",
	})
	want := []string{".dstackignore", ".gitignore", ".hidden", ".ignore", "important.log", "keep/.dstackignore", "keep/secret1", "sub/w"}
	if diff := cmp.Diff(want, left(t, open(t, filepath.Join(top, "dir"), ""), "")); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	tree(t, top, map[string]string{
		"global":                 "*.tmp\n",
		".gitignore":             "above\n",
		".dstackignore":          "dabove\n",
		"repo/.git/info/exclude": "excluded\n",
		"repo/.gitignore":        "*.o\n",
		"repo/.dstackignore":     "!keep.o\n",
		"repo/a.tmp":             "",
		"repo/above":             "", // Git's files above the repo do not hold in it
		"repo/dabove":            "",
		"repo/excluded":          "",
		"repo/keep.o":            "",
		"repo/x.o":               "",
	})
	want := []string{".dstackignore", ".gitignore", "above", "keep.o"}
	if diff := cmp.Diff(want, left(t, open(t, filepath.Join(top, "repo"), filepath.Join(top, "global")), "")); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

// git asks the real Git which of the paths are ignored.
func gitIgnores(t *testing.T, root string, paths []string) map[string]bool {
	t.Helper()
	cmd := exec.Command("git", "-c", "core.excludesFile=/dev/null", "check-ignore", "--no-index", "-z", "--stdin")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1")
	cmd.Stdin = strings.NewReader(strings.Join(paths, "\x00"))
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 1) {
		t.Fatal(err)
	}
	ignored := map[string]bool{}
	for path := range strings.SplitSeq(string(out), "\x00") {
		ignored[path] = true
	}
	return ignored
}

func initRepo(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if out, err := exec.Command("git", "init", "-q", root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return root
}

// compare checks our verdict on each file against Git's.
func compare(t *testing.T, root string, files []string, about string) {
	t.Helper()
	var want []string
	ignored := gitIgnores(t, root, files)
	for _, f := range files {
		if !ignored[f] {
			want = append(want, f)
		}
	}
	slices.Sort(want)
	got := left(t, open(t, root, ""), "")
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-git +ours):\n%s", about, diff)
	}
}

func TestPatternsAsGitReadsThem(t *testing.T) {
	t.Parallel()
	root := initRepo(t)
	files := []string{
		"a", "b.txt", "c d", "dir/a", "dir/b.txt", "dir/sub/a", "dir/sub/deep/a", "foo/bar", "foo/baz/bar", "x/foo/bar",
		"#hash", "!bang", "sp ace ", "back\\slash", "[ab]", "ü/ö", "abc", "a-c", "a]c", "build/out", "src/build/out", "src/build.c",
	}
	content := map[string]string{}
	for _, f := range files {
		content[f] = ""
	}
	tree(t, root, content)
	for _, text := range []string{
		"a", "/a", "*.txt", "dir/", "dir/*", "dir/**", "**/a", "dir/**/a", "**", "*", "/*", "/**", "foo/bar", "/foo/bar", "foo/**/bar",
		"**/foo/bar", "**/foo/**", "a\n!dir/a", "*\n!*/\n!a", "dir\n!dir/a", "dir/*\n!dir/sub", `\#hash`, `\!bang`, "#hash", `sp\ ace\ `,
		"sp ace ", "[ab]", `\[ab\]`, "[!a]bc", "[^a]bc", "a[b-]c", "a[]]c", "a[!]]c", "[a-c]", "[[:alpha:]]", "a?c", "ü", "build", "build/",
		"/build/", "src/build", "b.txt/", "a b\n", "\ta", "c d", "c\\ d", "**/", "a**", "foo**bar", "f*/**/b*", "[", "[a", "back\\\\slash", "a\\",
		"!a", "*.txt\n!b.txt\n/b.txt", "\ufeffa", "a\r\nb.txt\r",
	} {
		if err := os.WriteFile(filepath.Join(root, ".gitignore"), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		compare(t, root, append(slices.Clone(files), ".gitignore"), fmt.Sprintf("pattern %q", text))
	}
}

// Random lists at three levels of a tree of short names.
func TestRandomListsAsGitReadsThem(t *testing.T) {
	t.Parallel()
	root := initRepo(t)
	var files []string
	content := map[string]string{}
	for _, x := range []string{"", "a/", "b/", "a/a/", "a/b/", "b/ab/"} {
		for _, y := range []string{"a", "b", "ab", "c.x", "d.x"} {
			if name := x + y; name != "a" && name != "b" && name != "a/a" && name != "a/b" && name != "b/ab" {
				files, content[name] = append(files, name), ""
			}
		}
	}
	tree(t, root, content)
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"a", "b", "ab", "*", "**", "?", "*.x", "c.x", "[ab]", "/", "/", "!"}
	for round := range 60 {
		var about string
		lists := []string{".gitignore", "a/.gitignore", "b/.gitignore"}
		for _, name := range lists {
			var text strings.Builder
			for range random.IntN(4) {
				for range 1 + random.IntN(4) {
					text.WriteString(pieces[random.IntN(len(pieces))])
				}
				text.WriteString("\n")
			}
			about += fmt.Sprintf("%s: %q ", name, text.String())
			if err := os.WriteFile(filepath.Join(root, name), []byte(text.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		compare(t, root, append(slices.Clone(files), lists...), fmt.Sprintf("round %d, %s", round, about))
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"a/**/b", "[!a-z]", "\\", "[[:alpha:]]", "**", "!/x/ ", "[\xfe", "[\xfe]"} {
		f.Add(seed, "a/b")
	}
	f.Fuzz(func(_ *testing.T, text, path string) { parse(text).match(path, false) })
}
