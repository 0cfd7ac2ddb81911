package sshconfig

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Owner names one attach within this process: a word without spaces, such as
// the id of a job submission.
type Owner string

// IncludeError says that ~/.ssh/config could not be changed. The Host blocks
// are written all the same: `ssh -F ~/.dstack/ssh/config RUN` works, but
// `ssh RUN` and IDEs don't find them.
type IncludeError struct {
	Path string
	Err  error
}

func (e *IncludeError) Error() string {
	return fmt.Sprintf("couldn't add an Include to %s: %v", e.Path, e.Err)
}

// Unwrap gives the cause.
func (e *IncludeError) Unwrap() error { return e.Err }

// ErrBusy is that another program keeps a file locked.
var ErrBusy = errors.New("another program keeps it locked")

// ErrName is about a name that ssh's configuration can't hold.
var ErrName = errors.New("not a name for a host of ssh")

// notInNames are characters that mean something to ssh's configuration, or to
// the shell that starts ssh for a ProxyJump.
const notInNames = " \t\r\n\"'#*?!,`$;&|<>(){}\\~"

// maxPort is the highest port of ssh.
const maxPort = 65535

// How long to wait for another process that writes, and how often to look.
const (
	lockWait = 10 * time.Second
	lockPoll = 10 * time.Millisecond
)

// Files are a user's files for ssh, as far as they are ours. All methods may
// be called from several goroutines, and from several processes at once.
type Files struct {
	paths  pathStyle
	config string
	user   string
	// id names this Files in the blocks; alive is the file whose lock says
	// that its process is there.
	id    string
	alive *os.File
}

// Open makes ~/.dstack/ssh if needed, removes the blocks of processes that are
// gone, and registers this one. Close it.
func Open(home string) (*Files, error) {
	home = filepath.Clean(home)
	f := &Files{
		paths:  pathStyle{home: home, tilde: home == passwdHome()},
		config: filepath.Join(home, ".dstack", "ssh", "config"),
		user:   filepath.Join(home, ".ssh", "config"),
		id:     strings.ToLower(rand.Text()[:12]),
	}
	if err := makeFolder(f.attached()); err != nil {
		return nil, fmt.Errorf("prepare the files for ssh: %w", err)
	}
	err := locked(f.config, func() error {
		if err := f.register(); err != nil {
			return err
		}
		return f.collect()
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the files for ssh: %w", err), f.unregister())
	}
	return f, nil
}

// passwdHome is the user's home as ssh knows it, which does not ask HOME.
func passwdHome() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.HomeDir
}

// attached is the folder with a file for each process that is attached.
func (f *Files) attached() string { return filepath.Join(filepath.Dir(f.config), "attached") }

// Path is the configuration with our blocks, for `ssh -F`.
func (f *Files) Path() string { return f.config }

// Add makes these the owner's hosts, instead of those that it had. They come
// before blocks of the same name: the last that attached is the one that
// `ssh RUN` reaches. An [*IncludeError] says that only this part is missing.
func (f *Files) Add(owner Owner, hosts []Host) error {
	mark, err := f.mark(owner)
	if err != nil {
		return err
	}
	blocks := make([]block, len(hosts))
	for i, h := range hosts {
		// One bad value stops ssh for all hosts of the user.
		if h.Alias == "" || h.HostName == "" || h.Port < 1 || h.Port > maxPort {
			return fmt.Errorf("%w: %q at %q, port %d", ErrName, h.Alias, h.HostName, h.Port)
		}
		for _, word := range []string{h.Alias, h.HostName, h.ProxyJump} {
			if strings.HasPrefix(word, "-") || strings.ContainsAny(word, notInNames) {
				return fmt.Errorf("%w: %q", ErrName, word)
			}
		}
		if strings.ContainsAny(h.User+h.ProxyCommand, "\r\n") {
			return fmt.Errorf("%w: line break in the user or command of %q", ErrName, h.Alias)
		}
		if blocks[i], err = h.block(mark, f.paths); err != nil {
			return err
		}
	}
	if err := f.write(mark, blocks); err != nil {
		return err
	}
	if err := f.include(); err != nil {
		return &IncludeError{Path: f.user, Err: err}
	}
	return nil
}

// Remove takes the owner's hosts away. The Include stays: others may need it.
func (f *Files) Remove(owner Owner) error {
	mark, err := f.mark(owner)
	if err != nil {
		return err
	}
	return f.write(mark, nil)
}

// Close removes all that was added by this Files.
func (f *Files) Close() error {
	err := locked(f.config, func() error {
		return edit(f.config, func(old []byte) []byte { return keepBlocks(old, func(id string) bool { return id != f.id }) })
	})
	if err = errors.Join(err, f.unregister()); err != nil {
		return fmt.Errorf("clean the files for ssh: %w", err)
	}
	return nil
}

func (f *Files) mark(owner Owner) (string, error) {
	if owner == "" || strings.ContainsAny(string(owner), " \t\r\n") {
		return "", fmt.Errorf("%w: owner %q", ErrName, owner)
	}
	return f.id + " " + string(owner), nil
}

func (f *Files) write(mark string, blocks []block) error {
	err := locked(f.config, func() error {
		return edit(f.config, func(old []byte) []byte { return replaceBlocks(old, mark, blocks) })
	})
	if err != nil {
		return fmt.Errorf("write hosts for ssh: %w", err)
	}
	return nil
}

// include puts our file into the user's configuration.
func (f *Files) include() error {
	path, err := f.paths.include(f.config)
	if err != nil {
		return err
	}
	has := func(patterns []string) bool { return f.paths.includes(patterns, f.config) }
	if file, err := os.ReadFile(f.user); err == nil && included(file, has) {
		return nil
	}
	if err := makeFolder(filepath.Dir(f.user)); err != nil {
		return err
	}
	return locked(f.user, func() error {
		return edit(f.user, func(old []byte) []byte { return addInclude(old, "Include "+path, has) })
	})
}

// register makes this process's file and locks it. Under the lock of config.
func (f *Files) register() error {
	file, err := os.OpenFile(filepath.Join(f.attached(), f.id), os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err //nolint:wrapcheck // names the path
	}
	f.alive = file
	_, err = file.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	_, lockErr := tryLock(file)
	return errors.Join(err, lockErr, giveTo(file.Name(), f.attached()))
}

// unregister takes the file away that says that this process is attached.
func (f *Files) unregister() error {
	if f.alive == nil {
		return nil
	}
	// Windows removes no open file; an unlocked one says "gone" already.
	return errors.Join(f.alive.Close(), os.Remove(f.alive.Name()))
}

// collect removes what processes left that were killed. Under the lock of
// config.
func (f *Files) collect() error {
	if err := removeAside(f.config); err != nil {
		return err
	}
	entries, err := os.ReadDir(f.attached())
	if err != nil {
		return err //nolint:wrapcheck // names the path
	}
	var live []string
	for _, e := range entries {
		path := filepath.Join(f.attached(), e.Name())
		gone, err := isGone(path)
		switch {
		case err != nil || !gone:
			live = append(live, e.Name())
		default:
			if err := os.Remove(path); err != nil {
				return err //nolint:wrapcheck // names the path
			}
		}
	}
	return edit(f.config, func(old []byte) []byte {
		return keepBlocks(old, func(id string) bool { return slices.Contains(live, id) })
	})
}

// isGone says whether nobody holds a process's file locked.
func isGone(path string) (bool, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false, err //nolint:wrapcheck // names the path
	}
	free, err := tryLock(file)
	return free, errors.Join(err, file.Close())
}

// keepBlocks removes those of our blocks whose process's id is not to be kept.
func keepBlocks(file []byte, keep func(id string) bool) []byte {
	ours, rest := split(file)
	ours = slices.DeleteFunc(ours, func(b block) bool {
		id, _, _ := strings.Cut(b.owner, " ")
		return !keep(id)
	})
	return join(ours, rest)
}

// locked calls fn while it holds the lock of a file, PATH.lock, which 0.22.5
// takes as well. The lock's file stays: a name that is removed is no lock.
func locked(path string, fn func() error) error {
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return err //nolint:wrapcheck // names the path
	}
	if err := giveTo(lock.Name(), filepath.Dir(path)); err != nil {
		return errors.Join(err, lock.Close())
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockPoll) {
		ok, err := tryLock(lock)
		if err != nil {
			return errors.Join(err, lock.Close())
		}
		if ok {
			return errors.Join(fn(), lock.Close())
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("write %s: %w", path, ErrBusy), lock.Close())
		}
	}
}
