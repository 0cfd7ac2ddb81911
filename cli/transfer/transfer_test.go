//go:build unix

package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pkg/sftp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var moment = time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)

// write makes files below a folder: "name" with its content, "name/" a
// folder, "name@" a symbolic link to the content.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, strings.TrimRight(name, "@/"))
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case strings.HasSuffix(name, "/"):
			err = errors.Join(err, os.MkdirAll(path, 0o755))
		case strings.HasSuffix(name, "@"):
			err = errors.Join(err, os.Symlink(text, path))
		default:
			err = errors.Join(err, os.WriteFile(path, []byte(text), 0o640), os.Chtimes(path, moment, moment))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// read is the opposite of write, with the mode of files.
func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			out[name+"/"] = ""
		case d.Type()&fs.ModeSymlink != 0:
			out[name+"@"], err = os.Readlink(path)
		default:
			var text []byte
			text, err = os.ReadFile(path)
			out[name] = string(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// folderTree has what may be in a folder.
var folderTree = map[string]string{
	"a": "one", "empty": "", "with space": "two", "-dash": "three", "ünï'\"$": "four", "none/": "",
	"sub/": "", "sub/deep/": "", "sub/deep/b": "five", "sub/link@": "deep/b", "sub/away@": "/etc/passwd", "sub/up@": "../../../x",
}

// TestFolders copies a folder to the job and back.
func TestFolders(t *testing.T) {
	t.Parallel()
	s := newJobServer(t)
	here := t.TempDir()
	write(t, filepath.Join(here, "tree"), folderTree)
	if err := os.Chmod(filepath.Join(here, "tree/sub"), 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = filepath.WalkDir(here, func(p string, _ fs.DirEntry, _ error) error { return unlock(p) }) })
	c, warned := s.copier()
	if err := c.Upload(t.Context(), []string{filepath.Join(here, "tree")}, filepath.Join(s.home, "new")); err != nil {
		t.Fatal(err)
	}
	same(t, "in the job", read(t, filepath.Join(s.home, "new")), folderTree)
	t.Cleanup(func() { _ = unlock(filepath.Join(s.home, "new/sub")) })
	for path, mode := range map[string]fs.FileMode{"new/sub": 0o500, "new/a": 0o640} {
		info, err := os.Stat(filepath.Join(s.home, path))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("mode of %s: %v %v", path, info, err)
		}
	}
	info, err := os.Stat(filepath.Join(s.home, "new/sub/deep/b"))
	if err != nil || !info.ModTime().Equal(moment) {
		t.Errorf("time: %v %v", info, err)
	}
	if err := c.Download(t.Context(), []string{filepath.Join(s.home, "new")}, filepath.Join(here, "back")); err != nil {
		t.Fatal(err)
	}
	same(t, "back", read(t, filepath.Join(here, "back")), folderTree)
	if len(*warned) > 0 {
		t.Errorf("warned of %q", *warned)
	}
	if p := c.Progress(); p.Files != p.FilesDone || p.Bytes != p.BytesDone || p.Files == 0 {
		t.Errorf("progress: %+v", p)
	}
	if s.sums.Load() == 0 {
		t.Error("the job was not asked for checksums")
	}
}

func unlock(path string) error {
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		return os.Chmod(path, 0o700)
	}
	return nil
}

// TestTargets has the names that things get, as with `cp -r`.
func TestTargets(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		sources []string
		target  string
		want    map[string]string
	}{
		"file to new name":        {[]string{"f"}, "g", map[string]string{"g": "x"}},
		"file over file":          {[]string{"f"}, "old", map[string]string{"old": "x"}},
		"file into folder":        {[]string{"f"}, "dir", map[string]string{"dir/f": "x"}},
		"file into new folder":    {[]string{"f"}, "made/", map[string]string{"made/": "", "made/f": "x"}},
		"files into new folder":   {[]string{"f", "d"}, "made", map[string]string{"made/": "", "made/f": "x", "made/d/": "", "made/d/e": "y"}},
		"folder to new name":      {[]string{"d"}, "made", map[string]string{"made/": "", "made/e": "y"}},
		"folder into folder":      {[]string{"d"}, "dir", map[string]string{"dir/d/": "", "dir/d/e": "y"}},
		"what is in a folder":     {[]string{"d/."}, "dir", map[string]string{"dir/e": "y"}},
		"merge":                   {[]string{"d"}, "", map[string]string{"d/": "", "d/e": "y"}},
		"link stands for its end": {[]string{"l"}, "dir", map[string]string{"dir/l": "x"}},
		"link to a folder":        {[]string{"ld"}, "dir", map[string]string{"dir/ld/": "", "dir/ld/e": "y"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, up := range []bool{true, false} {
				s := newJobServer(t)
				here := t.TempDir()
				from, to := here, s.home
				if !up {
					from, to = s.home, here
				}
				write(t, from, map[string]string{"f": "x", "d/e": "y", "l@": "f", "ld@": "d"})
				before := map[string]string{"old": "old", "dir/": ""}
				write(t, to, before)
				var sources []string
				for _, f := range tt.sources {
					sources = append(sources, from+"/"+f)
				}
				c, _ := s.copier()
				var err error
				if target := to + "/" + tt.target; up {
					err = c.Upload(t.Context(), sources, target)
				} else {
					err = c.Download(t.Context(), sources, target)
				}
				if err != nil {
					t.Errorf("up %v: %v", up, err)
				}
				for name, text := range tt.want {
					before[name] = text
				}
				same(t, fmt.Sprintf("up %v", up), read(t, to), before)
			}
		})
	}
}

// TestRefusals has what goes wrong, and the words for it.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		sources []string
		target  string
		up      string
		down    string
	}{
		"no source":           {[]string{"none"}, "x", "FROM/none: no such file or folder", "run:FROM/none: no such file or folder"},
		"no folder for it":    {[]string{"f"}, "none/x", "run:TO/none/x: no such file or folder", "TO/none: no such file or folder"},
		"file over folder":    {[]string{"d/."}, "full", "run:TO/full/e: a file can't replace this folder", "TO/full/e: a file can't replace this folder"},
		"folder over file":    {[]string{"d"}, "old", "run:TO/old: a folder can't replace this file", "TO/old: a folder can't replace this file"},
		"files to a file":     {[]string{"f", "d"}, "old", "run:TO/old: is not a folder", "TO/old: is not a folder"},
		"slash behind a file": {[]string{"f"}, "old/", "run:TO/old: is not a folder", "TO/old: is not a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, up := range []bool{true, false} {
				s := newJobServer(t)
				here := t.TempDir()
				from, to, want := here, s.home, tt.up
				if !up {
					from, to, want = s.home, here, tt.down
				}
				write(t, from, map[string]string{"f": "x", "d/e": "y"})
				write(t, to, map[string]string{"old": "old", "full/e/": ""})
				var sources []string
				for _, f := range tt.sources {
					sources = append(sources, from+"/"+f)
				}
				c, _ := s.copier()
				var err error
				if target := to + "/" + tt.target; up {
					err = c.Upload(t.Context(), sources, target)
				} else {
					err = c.Download(t.Context(), sources, target)
				}
				got := strings.NewReplacer(from, "FROM", to, "TO").Replace(fmt.Sprint(err))
				if got != want {
					t.Errorf("up %v: %s\nwant %s", up, got, want)
				}
			}
		})
	}
}

// big is data that no two parts of are alike.
func big(n int) []byte {
	out := make([]byte, n)
	chacha := rand.NewChaCha8([32]byte{1})
	_, _ = chacha.Read(out)
	return out
}

// TestCut goes on after the connection broke, and sends little twice.
func TestCut(t *testing.T) {
	t.Parallel()
	data := big(40 << 20)
	for _, up := range []bool{true, false} {
		t.Run(fmt.Sprint("up ", up), func(t *testing.T) {
			t.Parallel()
			s := newJobServer(t, func(s *jobServer) { s.cutAfter = []int64{25 << 20, 1 << 20, 10, 12 << 20} })
			here := t.TempDir()
			from, to := filepath.Join(here, "data"), filepath.Join(s.home, "copy")
			if !up {
				from, to = filepath.Join(s.home, "data"), filepath.Join(here, "copy")
			}
			if err := os.WriteFile(from, data, 0o600); err != nil {
				t.Fatal(err)
			}
			c, _ := s.copier()
			var err error
			if up {
				err = c.Upload(t.Context(), []string{from}, to)
			} else {
				err = c.Download(t.Context(), []string{from}, to)
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(to)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("the copy differs (%v)", err)
			}
			if _, err := os.Stat(to + partSuffix); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("half a file is left: %v", err)
			}
			p := c.Progress()
			if p.Resumed == 0 || p.BytesDone != int64(len(data)) {
				t.Errorf("progress: %+v", p)
			}
			if s.logins.Load() < 3 {
				t.Errorf("%d logins", s.logins.Load())
			}
		})
	}
}

// TestResume goes on with what an earlier copy left, if it is of this file.
func TestResume(t *testing.T) {
	t.Parallel()
	data := big(24 << 20)
	for name, tt := range map[string]struct {
		part    []byte
		resumed int64
		plain   bool
	}{
		"good":          {data[:20<<20], 12 << 20, false},
		"no checksums":  {data[:20<<20], 12 << 20, true},
		"other data":    {make([]byte, 20<<20), 0, false},
		"gaps":          {append(bytes.Clone(data[:16<<20]), make([]byte, 4<<20)...), 12 << 20, false},
		"longer":        {append(bytes.Clone(data), 1, 2, 3), 16 << 20, false},
		"short":         {data[:1<<20], 0, false},
		"longer, other": {make([]byte, 30<<20), 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, up := range []bool{true, false} {
				s := newJobServer(t, func(s *jobServer) { s.plain = tt.plain })
				here := t.TempDir()
				from, to := here, s.home
				if !up {
					from, to = s.home, here
				}
				if err := errors.Join(os.WriteFile(from+"/f", data, 0o600), os.WriteFile(to+"/g"+partSuffix, tt.part, 0o600)); err != nil {
					t.Fatal(err)
				}
				c, _ := s.copier()
				var err error
				if up {
					err = c.Upload(t.Context(), []string{from + "/f"}, to+"/g")
				} else {
					err = c.Download(t.Context(), []string{from + "/f"}, to+"/g")
				}
				got, readErr := os.ReadFile(to + "/g")
				if err := errors.Join(err, readErr); err != nil || !bytes.Equal(got, data) {
					t.Fatalf("up %v: the copy differs (%v)", up, err)
				}
				if p := c.Progress(); p.Resumed != tt.resumed {
					t.Errorf("up %v: %d bytes were there, want %d", up, p.Resumed, tt.resumed)
				}
			}
		})
	}
}

// TestAgain does not send a file that is there already.
func TestAgain(t *testing.T) {
	t.Parallel()
	s := newJobServer(t)
	here := t.TempDir()
	write(t, here, map[string]string{"a": "one", "b": "two"})
	write(t, s.home, map[string]string{"a": "one", "b": "TWO"}) // alike but for the content
	c, _ := s.copier()
	if err := c.Upload(t.Context(), []string{here + "/."}, s.home); err != nil {
		t.Fatal(err)
	}
	same(t, "in the job", read(t, s.home), map[string]string{"a": "one", "b": "two"})
	if p := c.Progress(); p.Resumed != 3 || p.FilesDone != 2 {
		t.Errorf("progress: %+v", p)
	}
}

// TestFaults copies what can be copied, and leaves out what is no file.
func TestFaults(t *testing.T) {
	t.Parallel()
	s := newJobServer(t)
	here := t.TempDir()
	write(t, here, map[string]string{"d/a": "one", "d/b": "two", "d/c": "three"})
	write(t, s.home, map[string]string{"d/b/": ""})
	if err := unix.Mkfifo(here+"/d/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	c, warned := s.copier()
	err := c.Upload(t.Context(), []string{here + "/d"}, s.home)
	if err == nil || err.Error() != "run:"+s.home+"/d/b: a file can't replace this folder" {
		t.Errorf("error: %v", err)
	}
	same(t, "in the job", read(t, s.home), map[string]string{"d/": "", "d/a": "one", "d/b/": "", "d/c": "three"})
	if want := []string{here + "/d/pipe is neither a file nor a folder: left out"}; cmp.Diff(want, *warned) != "" {
		t.Errorf("warned of %q", *warned)
	}
}

// TestGone tells that the job is gone, and stops when the user wants.
func TestGone(t *testing.T) {
	t.Parallel()
	s := newJobServer(t)
	here := t.TempDir()
	write(t, here, map[string]string{"a": "one"})
	ended, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	cancel(stop)
	c, _ := s.copier()
	if err := c.Upload(ended, []string{here + "/a"}, "."); !errors.Is(err, stop) {
		t.Errorf("stopped: %v", err)
	}
	_ = s.listener.Close()
	err := c.Upload(t.Context(), []string{here + "/a"}, ".")
	if _, ok := errors.AsType[*LostError](err); !ok || !strings.Contains(err.Error(), "the job does not answer") {
		t.Errorf("job gone: %v", err)
	}
}

// evil is a job that tells names which lead out of the folder.
type evil struct{ name string }

type evilInfo struct {
	name string
	mode fs.FileMode
}

func (i evilInfo) Name() string       { return i.name }
func (i evilInfo) Size() int64        { return 4 }
func (i evilInfo) Mode() fs.FileMode  { return i.mode }
func (i evilInfo) ModTime() time.Time { return moment }
func (i evilInfo) IsDir() bool        { return i.mode.IsDir() }
func (i evilInfo) Sys() any           { return nil }

type evilList []fs.FileInfo

func (l evilList) ListAt(out []fs.FileInfo, from int64) (int, error) {
	if from >= int64(len(l)) {
		return 0, io.EOF
	}
	return copy(out, l[from:]), nil
}

// Filelist has a link to the outside, twice, and a file with a bad name.
func (e evil) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	switch {
	case r.Method == "Readlink":
		return evilList{evilInfo{name: ".."}}, nil
	case r.Method == "List" && strings.Count(r.Filepath, "/") == 1:
		return evilList{evilInfo{"way", fs.ModeSymlink | 0o777}, evilInfo{"way", fs.ModeDir | 0o755}, evilInfo{e.name, 0o644}}, nil
	case r.Method == "List":
		return evilList{evilInfo{"evil", 0o644}}, nil
	case strings.HasSuffix(r.Filepath, "evil"):
		return evilList{evilInfo{"evil", 0o644}}, nil
	}
	return evilList{evilInfo{"d", fs.ModeDir | 0o755}}, nil
}

func (e evil) Fileread(*sftp.Request) (io.ReaderAt, error) { return strings.NewReader("evil"), nil }

// TestEscape writes nothing outside of the target, whatever the job tells.
func TestEscape(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"../evil", "/evil", "a/../../evil", "..", ""} {
		e := evil{name}
		s := newJobServer(t, func(s *jobServer) { s.plain, s.lie = true, &sftp.Handlers{FileGet: e, FileList: e} })
		here := t.TempDir()
		c, _ := s.copier()
		err := c.Download(t.Context(), []string{"/d"}, here+"/in")
		if !errors.Is(err, ErrFileOverFolder) && !errors.Is(err, ErrEscape) {
			t.Errorf("%q: %v", name, err)
		}
		got := read(t, here)
		delete(got, "in/evil") // the last part of its name
		delete(got, "in/way/evil")
		same(t, name, got, map[string]string{"in/": "", "in/way/": ""})
	}
}

// swapping is a job that waits with the content of a file until a link stands
// where this machine keeps what came so far.
type swapping struct{ part string }

func (s swapping) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	switch {
	case r.Method == "Readlink":
		return evilList{evilInfo{name: "../precious"}}, nil
	case r.Method == "List":
		return evilList{evilInfo{"f", 0o777}, evilInfo{"f" + partSuffix, fs.ModeSymlink | 0o777}}, nil
	case strings.HasSuffix(r.Filepath, "f"):
		return evilList{evilInfo{"f", 0o777}}, nil
	}
	return evilList{evilInfo{"d", fs.ModeDir | 0o755}}, nil
}

func (s swapping) Fileread(*sftp.Request) (io.ReaderAt, error) { return s, nil }

func (s swapping) ReadAt(p []byte, from int64) (int, error) {
	for range 30 { // as long as the attack may take
		if info, err := os.Lstat(s.part); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return strings.NewReader("evil").ReadAt(p, from)
}

// TestSwappedPart leaves what lies beside the copy alone, though the job has a
// link in place of the file that is being written.
func TestSwappedPart(t *testing.T) {
	t.Parallel()
	s := newJobServer(t)
	s.plain = true
	here := t.TempDir()
	write(t, here, map[string]string{"precious": "mine"})
	if err := os.Chmod(here+"/precious", 0o600); err != nil {
		t.Fatal(err)
	}
	e := swapping{here + "/d/f" + partSuffix}
	s.lie = &sftp.Handlers{FileGet: e, FileList: e}
	c, _ := s.copier()
	if err := c.Download(t.Context(), []string{"/d"}, here); err != nil {
		t.Error(err)
	}
	same(t, "all", read(t, here), map[string]string{"precious": "mine", "d/": "", "d/f": "evil", "d/f" + partSuffix + "@": "../precious"})
	if info, err := os.Stat(here + "/precious"); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// linked is a job that says that a link is one even where links are followed.
type linked struct{ evil }

func (l linked) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	if r.Method == "Readlink" || r.Method == "List" {
		return l.evil.Filelist(r)
	}
	return evilList{evilInfo{"d", fs.ModeSymlink | 0o777}}, nil
}

// TestLinkAtTop makes no link of what was asked for, and follows none that an
// earlier copy left there.
func TestLinkAtTop(t *testing.T) {
	t.Parallel()
	s := newJobServer(t)
	l := linked{evil{"x"}}
	s.lie = &sftp.Handlers{FileGet: l, FileList: l}
	here := t.TempDir()
	c, _ := s.copier()
	if err := c.Download(t.Context(), []string{"/d"}, here); !errors.Is(err, ErrEscape) {
		t.Errorf("made: %v", err)
	}
	same(t, "made", read(t, here), map[string]string{})
	s = newJobServer(t)
	write(t, s.home, map[string]string{"d/authorized_keys": "evil"})
	write(t, here, map[string]string{"ssh/": ""})
	if err := os.Symlink("ssh", here+"/d"); err != nil {
		t.Fatal(err)
	}
	c, _ = s.copier()
	if err := c.Download(t.Context(), []string{s.home + "/d"}, here); !errors.Is(err, ErrFolderOverFile) {
		t.Errorf("followed: %v", err)
	}
	same(t, "followed", read(t, here), map[string]string{"ssh/": "", "d@": "ssh"})
}

// TestNames shows no name that controls the terminal.
func TestNames(t *testing.T) {
	t.Parallel()
	err := &FileError{"run:a\x1b]0;b\n", errors.New("\x1b[2Jc")}
	if got := err.Error(); got != "run:a\ufffd]0;b\ufffd: \ufffd[2Jc" {
		t.Errorf("%q", got)
	}
}

func TestLeadsOut(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]bool{ // with "/", with "\\"
		"a": {}, "..a": {}, "...": {}, "a b": {}, "": {true, true}, ".": {true, true}, "..": {true, true}, "a/b": {true, true},
		`a\b`: {false, true}, "c:": {false, true}, "a\x00": {true, true},
	} {
		if got := [2]bool{leadsOut(name, '/'), leadsOut(name, '\\')}; got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"f: the disk is full":  &FileError{"f", fmt.Errorf("write: %w", unix.ENOSPC)},
		"g: the disk is full":  &FileError{"g", &sftp.StatusError{Code: 4}},
		"h: permission denied": &FileError{"h", fs.ErrPermission},
		"i: not a directory":   &FileError{"i", &fs.PathError{Op: "open", Path: "i", Err: unix.ENOTDIR}},
	} {
		if strings.HasPrefix(want, "g") { // the words that our SFTP server has
			err = &FileError{"g", errors.New(`sftp: "write /g: no space left on device" (SSH_FX_FAILURE)`)}
		}
		if err.Error() != want {
			t.Errorf("%s, want %s", err, want)
		}
	}
}
