package exec

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// process is a line of the process table.
type process struct {
	pid, parent, session int
	zombie               bool
}

// table reads the processes that /proc shows.
func table() ([]process, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	names, err := dir.Readdirnames(-1)
	if closeErr := dir.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", name, "stat"))
		if err != nil {
			continue // it has ended since
		}
		if p, ok := parseStat(stat); ok && p.pid == pid {
			all = append(all, p)
		}
	}
	return all, nil
}

// parseStat reads the content of /proc/PID/stat. The command in it may hold
// spaces and parentheses, so the fields count from the last parenthesis.
func parseStat(stat []byte) (process, bool) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return process{}, false
	}
	fields := strings.Fields(string(stat[end+1:])) // state ppid pgrp session ...
	if len(fields) < 4 {
		return process{}, false
	}
	pid, err1 := strconv.Atoi(strings.TrimSpace(string(stat[:open])))
	parent, err2 := strconv.Atoi(fields[1])
	session, err3 := strconv.Atoi(fields[3])
	if err1 != nil || err2 != nil || err3 != nil {
		return process{}, false
	}
	state := fields[0]
	return process{pid: pid, parent: parent, session: session, zombie: state == "Z" || state == "X"}, true
}

// inSession returns the living processes of a session, without process self.
func inSession(all []process, session, self int) []int {
	var pids []int
	for _, p := range all {
		if p.session == session && !p.zombie && p.pid != self && p.pid != 1 {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// below returns the living descendants of a process.
func below(all []process, ancestor int) []int {
	children := map[int][]process{}
	for _, p := range all {
		children[p.parent] = append(children[p.parent], p)
	}
	var pids []int
	for queue := []int{ancestor}; len(queue) > 0; queue = queue[1:] {
		for _, p := range children[queue[0]] {
			if !p.zombie {
				pids = append(pids, p.pid)
			}
			if p.pid != ancestor { // a loop is impossible but in a table read while it changed
				queue = append(queue, p.pid)
			}
		}
		delete(children, queue[0])
	}
	return pids
}

// others returns the living processes of the namespace but 1 and self.
func others(all []process, self int) []int {
	var pids []int
	for _, p := range all {
		if !p.zombie && p.pid != 1 && p.pid != self {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// signalAll sends signals to processes; those that have ended are no error.
func signalAll(pids []int, signals ...syscall.Signal) {
	for _, pid := range pids {
		for _, s := range signals {
			// A process that may not be signalled is not ours to end.
			_ = syscall.Kill(pid, s)
		}
	}
}
