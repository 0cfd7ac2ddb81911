package sshconfig

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMain is a process that attaches and waits, if it is told so.
func TestMain(m *testing.M) {
	if home := os.Getenv("SSHCONFIG_ATTACH"); home != "" {
		f, err := Open(home)
		if err == nil {
			err = f.Add("child", run)
		}
		fmt.Println("attached", err)
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		return
	}
	os.Exit(m.Run())
}

func open(t *testing.T, home string) *Files {
	t.Helper()
	f, err := Open(home)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

// options is what the system's ssh makes of a host.
func options(t *testing.T, home, host string) map[string]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ssh", "-F", filepath.Join(home, ".ssh", "config"), "-G", host).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("ssh -G: %v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, twice := all[key]; !twice {
			all[key] = value
		}
	}
	return all
}

// TestSSHReadsIt: the user's ssh takes what was written as it was meant, from
// homes with odd names, and beside the user's own settings.
func TestSSHReadsIt(t *testing.T) {
	t.Parallel()
	for _, folder := range []string{"plain", "with space", `a"b`, `it's`, "[x] *?", "100%h", "#1", `back\slash`, "=", "ümlaut"} {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			home := filepath.Join(t.TempDir(), folder)
			write(t, filepath.Join(home, ".ssh", "config"), "User everywhere\nHost mine\n  Port 7", 0o600)
			write(t, filepath.Join(home, ".dstack", "ssh", "config"), "Compression yes\nHost run1\n  Port 9\n", 0o600)
			key := filepath.Join(home, ".dstack", "ssh", "abcd1234")
			f := open(t, home)
			err := f.Add("x", []Host{
				{Alias: "run1-host", HostName: "1.2.3.4", Port: 2222, User: "ubuntu", IdentityFile: key},
				{Alias: "run1", HostName: "localhost", Port: 10022, User: "root", IdentityFile: key, ProxyJump: "run1-host"},
				{Alias: "run2", HostName: "fe80::1%eth0", Port: 1, ProxyCommand: `dstack relay "run2"`},
			})
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]map[string]string{
				"run1-host": {"hostname": "1.2.3.4", "port": "2222", "user": "ubuntu", "identityfile": strings.ReplaceAll(key, "%", "%%"), "proxyjump": "", "compression": "yes"},
				"run1": {
					"hostname": "localhost", "port": "10022", "user": "root", "identityfile": strings.ReplaceAll(key, "%", "%%"), "identitiesonly": "yes",
					"stricthostkeychecking": "false", "userknownhostsfile": "/dev/null", "proxyjump": "run1-host",
				},
				"run2": {"hostname": "fe80::1%eth0", "proxycommand": `dstack relay "run2"`, "user": "everywhere"},
				"mine": {"port": "7", "user": "everywhere", "compression": "yes"},
			}
			for host, keys := range want {
				all := options(t, home, host)
				got := map[string]string{}
				for key := range keys {
					got[key] = all[key]
				}
				if diff := cmp.Diff(keys, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s\n%s", host, diff, read(t, f.Path()))
				}
			}
			if err := f.Remove("x"); err != nil {
				t.Fatal(err)
			}
			if got := options(t, home, "run1")["port"]; got != "9" {
				t.Errorf("after removal port %s, want that of the other block", got)
			}
		})
	}
}

// TestModesAndLinks: a link stays one, its target keeps its mode; what is made
// is private.
func TestModesAndLinks(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	dotfiles := filepath.Join(home, "dotfiles", "config")
	write(t, dotfiles, "Host a\n", 0o640)
	write(t, filepath.Join(home, ".ssh", "known_hosts"), "", 0o600)
	link := filepath.Join(home, ".ssh", "config")
	if err := os.Symlink("../dotfiles/config", link); err != nil {
		t.Fatal(err)
	}
	f := open(t, home)
	if err := f.Add("x", run); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(link); err != nil || to != "../dotfiles/config" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if info, err := os.Stat(dotfiles); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode of the target: %v, %v", info, err)
	}
	if got, want := read(t, dotfiles), "Include "+f.Path()+"\nHost a\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	fresh := t.TempDir()
	g := open(t, fresh)
	if err := g.Add("x", run); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]fs.FileMode{".ssh": 0o700 | fs.ModeDir, ".ssh/config": 0o600, ".dstack": 0o700 | fs.ModeDir, ".dstack/ssh/config": 0o600} {
		if info, err := os.Stat(filepath.Join(fresh, path)); err != nil || info.Mode() != mode {
			t.Errorf("%s: mode %v, %v, want %v", path, info.Mode(), err, mode)
		}
	}
}

// TestNotWritable: a user's configuration that can't be changed is a warning
// about `ssh RUN` only, and is not touched.
func TestNotWritable(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, path string){
		"read-only":   func(t *testing.T, path string) { t.Helper(); write(t, path, "Host a\n", 0o400) },
		"a folder":    func(t *testing.T, path string) { t.Helper(); write(t, filepath.Join(path, "x"), "", 0o600) },
		"no folder":   func(t *testing.T, path string) { t.Helper(); write(t, filepath.Dir(path), "", 0o600) },
		"a link loop": func(t *testing.T, path string) { t.Helper(); loop(t, path) },
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			path := filepath.Join(home, ".ssh", "config")
			prepare(t, path)
			f := open(t, home)
			err := f.Add("x", run)
			if fault, ok := errors.AsType[*IncludeError](err); !ok || fault.Path != path {
				t.Fatalf("got %v, want an IncludeError", err)
			}
			if !strings.Contains(read(t, f.Path()), "Host run1\n") {
				t.Error("no blocks")
			}
			if name == "read-only" && read(t, path) != "Host a\n" {
				t.Error("the read-only file was changed")
			}
		})
	}
}

func loop(t *testing.T, path string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.Symlink("config", path)); err != nil {
		t.Fatal(err)
	}
}

// TestOwner: root makes nothing in a user's home that is not the user's, and
// leaves files to whom they belong.
func TestOwner(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	target := filepath.Join(t.TempDir(), "config")
	write(t, target, "Host a\n", 0o600)
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chown(home, 12345, 12346), os.Chown(target, 12347, 12348)); err != nil {
			t.Fatal(err)
		}
	}
	uid := func(path string) uint32 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			t.Fatal("no owner")
		}
		return stat.Uid
	}
	user, other := uid(home), uid(target)
	if err := makeFolder(filepath.Join(home, ".ssh")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(home, ".ssh", "config")); err != nil {
		t.Fatal(err)
	}
	f := open(t, home)
	if err := f.Add("x", run); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{".ssh", ".ssh/config.lock", ".dstack", ".dstack/ssh", ".dstack/ssh/config", ".dstack/ssh/config.lock", ".dstack/ssh/attached/" + f.id} {
		if got := uid(filepath.Join(home, path)); got != user {
			t.Errorf("%s belongs to %d, want %d", path, got, user)
		}
	}
	if got := uid(target); got != other || !strings.HasPrefix(read(t, target), "Include ") {
		t.Errorf("the user's configuration belongs to %d, want %d", got, other)
	}
}

func TestBadNames(t *testing.T) {
	t.Parallel()
	f := open(t, t.TempDir())
	good := Host{Alias: "a", HostName: "b", Port: 22}
	for name, spoil := range map[string]func(*Host){
		"space in name": func(h *Host) { h.Alias = "a b" }, "pattern": func(h *Host) { h.Alias = "*" }, "no name": func(h *Host) { h.Alias = "" },
		"line in address": func(h *Host) { h.HostName = "x\nProxyCommand evil" }, "no address": func(h *Host) { h.HostName = "" },
		"line in user": func(h *Host) { h.User = "x\ny" }, "line in key": func(h *Host) { h.IdentityFile = "/a\nb" },
		"command in name": func(h *Host) { h.Alias = "a;touch${IFS}x" }, "option": func(h *Host) { h.HostName = "-oProxyCommand=x" },
		"command in jump": func(h *Host) { h.ProxyJump = "$(x)" },
		"no port":         func(h *Host) { h.Port = 0 }, "high port": func(h *Host) { h.Port = 65536 },
	} {
		h := good
		spoil(&h)
		if err := f.Add("x", []Host{h}); err == nil {
			t.Errorf("%s: %+v was written", name, h)
		}
	}
	if err := f.Add("two words", run); !errors.Is(err, ErrName) {
		t.Errorf("owner: %v", err)
	}
	if _, err := os.Stat(f.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Error("something was written")
	}
	if err := f.Add("x", []Host{good}); err != nil {
		t.Error(err)
	}
}

// TestKilled: what a process left that was killed goes with the next Open; a
// live one keeps its blocks, and so does 0.22.5.
func TestKilled(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	const python = "Host py\n    HostName 1.1.1.1\n"
	write(t, filepath.Join(home, ".dstack", "ssh", "config"), python, 0o644)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), "SSHCONFIG_ATTACH="+home)
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "attached <nil>\n" {
		t.Fatalf("the other process: %q, %v", line, err)
	}
	f := open(t, home)
	if text := read(t, f.Path()); strings.Count(text, "\nHost ") != 2 || !strings.HasSuffix(text, python) {
		t.Errorf("while the other process lives:\n%s", text)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	write(t, filepath.Join(home, ".dstack", "ssh", ".config.dstack"), "cut sh", 0o600) // killed while it wrote
	g := open(t, home)
	if text := read(t, g.Path()); text != python {
		t.Errorf("after it was killed:\n%s", text)
	}
	left, err := os.ReadDir(g.attached())
	if err != nil || len(left) != 2 {
		t.Errorf("files of processes: %v, %v", left, err)
	}
	if left, err := filepath.Glob(filepath.Join(home, ".dstack", "ssh", ".config*")); err != nil || len(left) > 0 {
		t.Errorf("written aside: %v, %v", left, err)
	}
}

// TestTwoAttaches: the later one is reached, and the earlier one again when
// the later one is gone.
func TestTwoAttaches(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	f, g := open(t, home), open(t, home)
	add := func(f *Files, owner Owner, port int) {
		if err := f.Add(owner, []Host{{Alias: "run1", HostName: "h", Port: port}}); err != nil {
			t.Fatal(err)
		}
	}
	port := func() string { return options(t, home, "run1")["port"] }
	add(f, "x", 1001)
	add(g, "x", 1002)
	if got := port(); got != "1002" {
		t.Errorf("port %s, want that of the later one", got)
	}
	add(f, "y", 1003)
	if err := f.Remove("y"); err != nil {
		t.Fatal(err)
	}
	if err := g.Remove("x"); err != nil {
		t.Fatal(err)
	}
	if got := port(); got != "1001" {
		t.Errorf("port %s, want that of the one that is left", got)
	}
}

// TestConcurrent: many attaches and detaches at once leave the rest alone and
// nothing behind.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	const rest = "ServerAliveInterval 5\nHost py\n    Port 1"
	write(t, filepath.Join(home, ".dstack", "ssh", "config"), rest, 0o600)
	write(t, filepath.Join(home, ".ssh", "config"), rest, 0o600)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				f, err := Open(home)
				if err != nil {
					t.Error(err)
					return
				}
				if err := errors.Join(f.Add("x", run), f.Remove("x"), f.Add("y", run), f.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	config := filepath.Join(home, ".dstack", "ssh", "config")
	if got := read(t, config); got != rest {
		t.Errorf("left:\n%s", got)
	}
	if got, want := read(t, filepath.Join(home, ".ssh", "config")), "Include "+config+"\n"+rest; got != want {
		t.Errorf("~/.ssh/config:\n%s", got)
	}
	for folder, names := range map[string]int{".ssh": 2, ".dstack/ssh": 3, ".dstack/ssh/attached": 0} {
		if left, err := os.ReadDir(filepath.Join(home, folder)); err != nil || len(left) != names {
			t.Errorf("%s: %v, %v", folder, left, err)
		}
	}
}
