package metrics

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"dstack/protocol/jobapi"
)

// tick is what the kernel counts CPU time of processes in, in microseconds.
const tick = 10_000

// process is what counts of a line of the process table.
type process struct {
	pid, parent int
	// ticks are those of the process and of its children that it waited for.
	ticks int64
	pages int64 // resident
}

// processes adds up all processes below the agent and those that it waited
// for; in a container of the job's own, all that there are. Memory that
// processes share counts for each of them.
func (c Config) processes() (*jobapi.Usage, error) {
	entries, err := fs.ReadDir(c.Root, "proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	children := map[int][]process{}
	var all []process
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		stat, err := fs.ReadFile(c.Root, path.Join("proc", e.Name(), "stat"))
		if err != nil {
			continue // it has ended since
		}
		if p, ok := parseStat(stat); ok {
			all = append(all, p)
			children[p.parent] = append(children[p.parent], p)
		}
	}
	if !c.Isolated {
		all = below(all, children, c.PID)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("list processes: the agent's own, %d, is not there", c.PID)
	}
	u := &jobapi.Usage{}
	for _, p := range all {
		u.CPUMicro += p.ticks * tick
		u.MemoryBytes += p.pages * int64(os.Getpagesize())
	}
	u.WorkingSetBytes = u.MemoryBytes
	return u, nil
}

// below are a process and its descendants.
func below(all []process, children map[int][]process, pid int) []process {
	var out []process
	for _, p := range all {
		if p.pid == pid {
			out = append(out, p)
		}
	}
	for i := 0; i < len(out); i++ {
		next := children[out[i].pid]
		delete(children, out[i].pid) // a table that changes while it is read may have loops
		out = append(out, next...)
	}
	return out
}

// parseStat reads /proc/PID/stat; the command in it may hold anything, so the
// fields count from the last parenthesis.
func parseStat(stat []byte) (process, bool) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return process{}, false
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 22 {
		return process{}, false
	}
	var n [7]int64
	texts := []string{strings.TrimSpace(string(stat[:open])), fields[1], fields[11], fields[12], fields[13], fields[14], fields[21]}
	for i, text := range texts {
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return process{}, false
		}
		n[i] = v
	}
	return process{pid: int(n[0]), parent: int(n[1]), ticks: n[2] + n[3] + n[4] + n[5], pages: n[6]}, true
}
