package docker

import (
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"dstack/shim/facts"
)

// clockTicks is USER_HZ, the same on every Linux that Go runs on.
const clockTicks = 100

// engineStart is when the newest dockerd of this host was started; zero if
// none is seen (the engine is then not a process of this host).
func engineStart() time.Time {
	root := os.DirFS("/")
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return time.Time{}
	}
	boot := bootTime()
	var newest time.Time
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		comm, err := os.ReadFile("/proc/" + e.Name() + "/comm")
		if err != nil || strings.TrimSpace(string(comm)) != "dockerd" {
			continue
		}
		start, err := facts.StartTime(root, pid)
		if err != nil {
			continue
		}
		ticks, err := strconv.ParseInt(start, 10, 64)
		if err != nil {
			continue
		}
		if at := boot.Add(time.Duration(ticks) * time.Second / clockTicks); at.After(newest) {
			newest = at
		}
	}
	return newest
}

// processesOf are the processes in a container's control groups; proc is the
// host's /proc. Every engine puts the container's id into their names.
func processesOf(proc fs.FS, id string) []int {
	names, err := fs.Glob(proc, "[1-9]*/cgroup")
	if err != nil || id == "" {
		return nil
	}
	var pids []int
	for _, name := range names {
		pid, err := strconv.Atoi(path.Dir(name))
		if err != nil {
			continue
		}
		groups, err := fs.ReadFile(proc, name)
		if err == nil && strings.Contains(string(groups), id) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func bootTime() time.Time {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}
	}
	for line := range strings.Lines(string(stat)) {
		if value, ok := strings.CutPrefix(line, "btime "); ok {
			seconds, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			if err == nil {
				return time.Unix(seconds, 0)
			}
		}
	}
	return time.Time{}
}
