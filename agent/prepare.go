package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"dstack/agent/account"
	"dstack/agent/exec"
	"dstack/agent/jobenv"
	"dstack/protocol/jobapi"
)

// defaultRepoDir is where a job without a repo would have it.
const defaultRepoDir = "/workflow"

// setup is what was found out about a job before its start.
type setup struct {
	user    account.User
	command exec.Command
	// repoDir is where the code of the job is.
	repoDir string
	places  jobenv.Places
}

// host is the system that the job will run in.
type host struct {
	// root is "/" but in tests.
	root string
	// dir is the task's folder.
	dir string
	// canSwitch says whether we may become another user.
	canSwitch bool
}

func (h host) path(p string) string { return filepath.Join(h.root, p) }

// read returns the content of a file of the image, "" if it cannot be read.
func (h host) read(p string) string {
	data, err := os.ReadFile(h.path(p))
	if err != nil {
		return ""
	}
	return string(data)
}

// prepare finds out who runs the job, where, and with which environment. If
// it fails, it returns the final status of the job.
func (h host) prepare(spec *jobapi.Spec, base []string) (setup, *jobapi.Status) {
	user, credential, err := h.user(spec)
	if err != nil {
		s := failed(reasonExecutor, "Failed to set job user (%v)", err)
		return setup{}, &s
	}
	if !spec.Isolated {
		user.Home = h.home(base, user.Home)
	}
	dir, err := h.workingDir(spec, user.Home, credential)
	if err != nil {
		s := failed(reasonExecutor, "Failed to set job working dir (%v)", err)
		return setup{}, &s
	}
	code, err := repoDir(spec.RepoDir, dir, user.Home)
	if err != nil {
		s := failed(reasonExited, "Failed to set up the repo (%v)", err)
		return setup{}, &s
	}
	places := jobenv.Places{Home: user.Home, WorkingDir: dir, RepoDir: code, Hostfile: h.hostfile(spec)}
	return setup{user: user, repoDir: code, places: places, command: exec.Command{
		Args:       spec.Commands,
		Env:        jobenv.Build(base, spec, places),
		Dir:        dir,
		Credential: credential,
	}}, nil
}

// user finds the job's user, and the credential to become it if that is
// wanted and allowed.
func (h host) user(spec *jobapi.Spec) (account.User, *syscall.Credential, error) {
	name := spec.User
	if name == "" {
		name = spec.ImageUser
	}
	if name == "" || !h.canSwitch {
		name = strconv.Itoa(os.Geteuid())
	}
	user, err := account.Resolve(name, h.read("etc/passwd"), h.read("etc/group"))
	if err != nil {
		return account.User{}, nil, err
	}
	if !h.canSwitch || spec.User == "" && spec.ImageUser == "" {
		return user, nil, nil
	}
	return user, credential(user, spec), nil
}

// credential is what it takes to become a user of the job.
func credential(u account.User, spec *jobapi.Spec) *syscall.Credential {
	return &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: append(slices.Clone(u.Groups), spec.DeviceGroups...)}
}

// home is the home of a job that is not isolated: what the shim says, else
// what the host's user has, else the job's own folder.
func (h host) home(base []string, users string) string {
	for _, dir := range []string{jobenv.Lookup(base, "HOME"), users} {
		if filepath.IsAbs(dir) && isDir(dir) {
			return dir
		}
	}
	return h.work()
}

// work is the folder of a job that is not isolated.
func (h host) work() string { return filepath.Join(h.dir, "work") }

func (h host) hostfile(spec *jobapi.Spec) string {
	if spec.Isolated {
		return "/dstack/mpi/hostfile"
	}
	return filepath.Join(h.dir, "mpi/hostfile")
}

// isDir says whether path is a directory other than "/".
func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir() && path != "/"
}

// workingDir finds the job's working directory and creates it if need be.
func (h host) workingDir(spec *jobapi.Spec, home string, owner *syscall.Credential) (string, error) {
	dir, err := h.wantedDir(spec, home)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return "", err
	}
	inside := strings.HasPrefix(dir, h.dir+"/")
	if _, err := os.Stat(dir); err != nil && !spec.Isolated && owner != nil && !inside {
		// We may create it, but the job's user perhaps may not.
		return "", fmt.Errorf("%s does not exist on the host and jobs without isolation cannot create it", dir)
	}
	return dir, makeDir(dir, owner)
}

func (h host) wantedDir(spec *jobapi.Spec, home string) (string, error) {
	dir := spec.WorkingDir
	switch {
	case dir == "" && spec.Isolated:
		return os.Getwd()
	case dir == "":
		return home, nil
	case dir == "~" || strings.HasPrefix(dir, "~/"):
		dir = filepath.Join(home, dir[1:])
	case dir[0] == '~':
		return "", fmt.Errorf("%s: the home of another user is not supported, use ~/ or an absolute path", dir)
	case !filepath.IsAbs(dir):
		return "", fmt.Errorf("%s is not absolute", dir)
	}
	return filepath.Clean(dir), nil
}

// makeDir creates dir and its missing parents with mode 0755 for owner.
func makeDir(dir string, owner *syscall.Credential) error {
	info, err := os.Stat(dir)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := makeDir(filepath.Dir(dir), owner); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // whatever the umask is
		return err
	}
	return give(dir, owner)
}

// give makes owner the owner of path.
func give(path string, owner *syscall.Credential) error {
	if owner == nil {
		return nil
	}
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}

func repoDir(dir, workingDir, home string) (string, error) {
	if dir == "" {
		return defaultRepoDir, nil
	}
	return place(dir, workingDir, home)
}

// furnish writes the files that a job finds beside its environment. They are
// amenities: the job starts without them on a read-only file system.
func (h host) furnish(spec *jobapi.Spec, s *setup) error {
	errs := []error{h.writeHostfile(spec)}
	if spec.Isolated {
		errs = append(errs, h.writeProfile(s), h.sourceProfile())
	}
	return errors.Join(errs...)
}

func (h host) writeHostfile(spec *jobapi.Spec) error {
	path := h.hostfile(spec)
	if spec.Isolated {
		path = h.path(path)
	}
	if err := makeDir(filepath.Dir(path), nil); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(jobenv.Hostfile(spec)), 0o644)
}

// writeProfile writes the script that gives login shells the job's
// environment. It holds secrets: the job's user alone may read it.
func (h host) writeProfile(s *setup) error {
	path := h.path("dstack/profile")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(jobenv.Profile(s.command.Env))
	return errors.Join(err, file.Close(), give(path, s.command.Credential))
}

// sourceProfile makes /etc/profile read our script, once.
func (h host) sourceProfile() error {
	if !isDir(h.path("etc")) {
		return nil // no shell without it either
	}
	before := h.read("etc/profile")
	after, changed := jobenv.AddToProfile(before, "/dstack/profile")
	if !changed {
		return nil
	}
	file, err := os.OpenFile(h.path("etc/profile"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteString(after[len(before):])
	return errors.Join(err, file.Close())
}

// capabilities that matter, as bits of the kernel's set.
const (
	switchUser = 1<<unix.CAP_CHOWN | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID
	resources  = 1 << unix.CAP_SYS_RESOURCE
)

// capabilities returns the effective set of this process.
func capabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return uint64(sets[1].Effective)<<32 | uint64(sets[0].Effective), nil
}

// unlimitMemlock lets the job lock any amount of memory, as RDMA needs.
func unlimitMemlock() error {
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited); err != nil {
		return fmt.Errorf("raise limit of locked memory: %w", err)
	}
	return nil
}
