package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"dstack/durable"
	"dstack/shim/facts"
)

// identity names one process for ever: a pid alone is used again.
type identity struct {
	PID   int    `json:"pid"`
	Start string `json:"start"`
	Boot  string `json:"boot"`
}

func readIdentity(dir string) (identity, error) {
	var id identity
	b, err := os.ReadFile(filepath.Join(dir, pidFile))
	if err != nil {
		return id, fmt.Errorf("read process id: %w", err)
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return id, fmt.Errorf("read process id: %w", err)
	}
	return id, nil
}

// alive says whether the process still exists, be it as a zombie.
func (id identity) alive(root fs.FS) bool {
	boot, err := facts.BootID(root)
	if err != nil || boot != id.Boot {
		return false
	}
	start, err := facts.StartTime(root, id.PID)
	return err == nil && start == id.Start
}

// waitSlice is how long one look at the process lasts, in milliseconds; the
// kernel ends it at once when the process ends.
const waitSlice = 1000

// wait returns the exit code once the process has ended: 128+n after signal
// n, -1 if it was not this shim's child.
func (id identity) wait(ctx context.Context) (int, error) {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil || !id.alive(os.DirFS("/")) {
		if err == nil {
			err = unix.Close(fd)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return -1, fmt.Errorf("open process: %w", err)
		}
		return -1, nil
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	defer func() { _ = file.Close() }()
	for {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, waitSlice)
		switch {
		case ctx.Err() != nil:
			return -1, fmt.Errorf("wait for process: %w", context.Cause(ctx))
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return -1, fmt.Errorf("wait for process: %w", err)
		case ready > 0:
			return reap(id.PID), nil
		}
	}
}

func reap(pid int) int {
	var status syscall.WaitStatus
	got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
	switch {
	case err != nil || got != pid:
		return -1
	case status.Signaled():
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// Exec is the launcher: it turns this process into the agent of a task. It
// notes its id durably in the private folder, which only one launcher of a
// task can do, joins the control groups, gives up root, and executes.
// Its errors go to a file, since nobody waits for it.
func Exec(private, run string, owner int, agent string, groups []string) error {
	err := launch(private, run, owner, agent, groups)
	if errors.Is(err, fs.ErrExist) {
		return nil // another launcher of this task was faster
	}
	return errors.Join(err, durable.WriteFile(filepath.Join(private, errFile), []byte(err.Error()), 0o600))
}

func launch(private, run string, owner int, agent string, groups []string) error {
	if err := claim(private); err != nil {
		return err
	}
	for _, g := range groups {
		if err := os.WriteFile(filepath.Join(g, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("join control group: %w", err)
		}
	}
	if err := giveUpOOMProtection("/proc/self/oom_score_adj"); err != nil {
		return err
	}
	if owner != 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(owner), syscall.Setuid(owner)); err != nil {
			return fmt.Errorf("become the task's user: %w", err)
		}
	}
	if err := syscall.Exec(agent, []string{agent, "run", "--dir", run}, os.Environ()); err != nil {
		return fmt.Errorf("execute %s: %w", agent, err)
	}
	return nil
}

// giveUpOOMProtection undoes what the shim's unit asks for the shim: a job
// that inherits it eats the memory of the host, and everything else is killed.
func giveUpOOMProtection(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read out-of-memory score: %w", err)
	}
	if !strings.HasPrefix(string(b), "-") {
		return nil
	}
	if err := os.WriteFile(file, []byte("0"), 0); err != nil {
		return fmt.Errorf("raise out-of-memory score: %w", err)
	}
	return nil
}

// claim makes the file with this process's identity, if there is none.
func claim(private string) error {
	root := os.DirFS("/")
	boot, err := facts.BootID(root)
	if err != nil {
		return fmt.Errorf("identify launcher: %w", err)
	}
	start, err := facts.StartTime(root, os.Getpid())
	if err != nil {
		return fmt.Errorf("identify launcher: %w", err)
	}
	data, err := json.Marshal(identity{PID: os.Getpid(), Start: start, Boot: boot})
	if err != nil {
		return fmt.Errorf("encode identity: %w", err)
	}
	name := filepath.Join(private, pidFile)
	own := fmt.Sprintf("%s.%d", name, os.Getpid())
	if err := durable.WriteFile(own, data, 0o600); err != nil {
		return fmt.Errorf("note identity: %w", err)
	}
	// A link is made whole or not at all, and never over another.
	if err := os.Link(own, name); err != nil {
		return errors.Join(fmt.Errorf("claim task: %w", err), os.Remove(own))
	}
	return errors.Join(os.Remove(own), durable.SyncDir(private))
}

// target says which processes belong to a task.
type target struct {
	agent identity
	owner int
	jobID string
}

// killAll sends KILL to all processes of a task and returns how many it saw.
func killAll(root fs.FS, t target) int {
	seen := 0
	for _, pid := range members(root, t, os.Getpid()) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err == nil {
			seen++
		}
	}
	return seen
}

type proc struct {
	pid, parent, session int
	uid                  int
	zombie               bool
}

// members are the processes of a task other than zombies: those of its own
// user, or, where it shares the shim's user, the agent, its descendants,
// their sessions, and whoever carries the job's id in its environment.
func members(root fs.FS, t target, self int) []int {
	all := processes(root)
	in := map[int]bool{}
	if t.owner != 0 {
		for _, p := range all {
			in[p.pid] = p.uid == t.owner
		}
	} else {
		if t.agent.PID != 0 && t.agent.alive(root) {
			in[t.agent.PID] = true
		}
		for _, p := range all {
			if p.pid != self && !in[p.pid] && t.jobID != "" && carries(root, p.pid, "DSTACK_JOB_ID="+t.jobID) {
				in[p.pid] = true
			}
		}
		for grown := true; grown; {
			grown = false
			for _, p := range all {
				if !in[p.pid] && p.pid != self && (in[p.parent] || in[p.session]) {
					in[p.pid], grown = true, true
				}
			}
		}
	}
	var pids []int
	for _, p := range all {
		if in[p.pid] && !p.zombie {
			pids = append(pids, p.pid)
		}
	}
	slices.Sort(pids)
	return pids
}

func processes(root fs.FS) []proc {
	entries, err := fs.ReadDir(root, "proc")
	if err != nil {
		return nil
	}
	var all []proc
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := path.Join("proc", e.Name())
		stat, err := fs.ReadFile(root, path.Join(dir, "stat"))
		if err != nil {
			continue
		}
		p, ok := parseStat(string(stat))
		if !ok {
			continue
		}
		p.pid = pid
		status, err := fs.ReadFile(root, path.Join(dir, "status"))
		if err != nil {
			continue
		}
		p.uid = parseUID(string(status))
		all = append(all, p)
	}
	return all
}

func parseStat(stat string) (proc, bool) {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 4 {
		return proc{}, false
	}
	parent, err1 := strconv.Atoi(f[1])
	session, err2 := strconv.Atoi(f[3])
	return proc{parent: parent, session: session, zombie: f[0] == "Z" || f[0] == "X"}, err1 == nil && err2 == nil
}

// parseUID is the real user id in a status file, -1 if there is none.
func parseUID(status string) int {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				if uid, err := strconv.Atoi(f[0]); err == nil {
					return uid
				}
			}
		}
	}
	return -1
}

func carries(root fs.FS, pid int, pair string) bool {
	env, err := fs.ReadFile(root, fmt.Sprintf("proc/%d/environ", pid))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(bytes.Split(env, []byte{0}), func(b []byte) bool { return string(b) == pair })
}
