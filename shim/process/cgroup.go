package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// groups makes control groups for tasks below a "dstack" folder at the top of
// the hierarchy. All of it is as far as the host allows: without the right to
// make groups, tasks run without.
type groups struct {
	// v2 is the unified hierarchy; v1 has one folder per controller.
	v2   string
	v1   map[string]string
	root string
}

const groupName = "dstack"

// controllers are those of version 1 that a task gets groups of.
var controllers = []string{"pids", "memory", "cpu", "cpuacct"}

func findGroups(root string) groups {
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		return groups{root: root, v2: filepath.Join(root, groupName)}
	}
	g := groups{root: root, v1: map[string]string{}}
	for _, controller := range controllers {
		dir := filepath.Join(root, controller)
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			g.v1[controller] = filepath.Join(dir, groupName)
		}
	}
	return g
}

// dirs are the folders of a task's groups.
func (g groups) dirs(id string) []string {
	if g.v2 != "" {
		return []string{filepath.Join(g.v2, id)}
	}
	var dirs []string
	for _, controller := range controllers {
		if top, ok := g.v1[controller]; ok {
			dirs = append(dirs, filepath.Join(top, id))
		}
	}
	return dirs
}

const cpuPeriod = 100_000 // µs

// create makes a task's groups with its limits (0 is none), and returns the
// folders of those that could be made.
func (g groups) create(id string, cpus float64, memory int64) []string {
	set := func(dir, file, value string) {
		// A limit that this host cannot keep is left out, like the group itself.
		_ = os.WriteFile(filepath.Join(dir, file), []byte(value), 0)
	}
	if g.v2 != "" {
		set(g.root, "cgroup.subtree_control", "+cpu +memory +pids")
		if os.MkdirAll(g.v2, 0o755) == nil {
			set(g.v2, "cgroup.subtree_control", "+cpu +memory +pids")
		}
	}
	var made []string
	for _, dir := range g.dirs(id) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			continue
		}
		made = append(made, dir)
		quota := strconv.FormatInt(int64(cpus*cpuPeriod), 10)
		switch {
		case g.v2 != "":
			if memory > 0 {
				set(dir, "memory.max", strconv.FormatInt(memory, 10))
			}
			if cpus > 0 {
				set(dir, "cpu.max", fmt.Sprintf("%s %d", quota, cpuPeriod))
			}
		case memory > 0 && dir == filepath.Join(g.v1["memory"], id):
			set(dir, "memory.limit_in_bytes", strconv.FormatInt(memory, 10))
		case cpus > 0 && dir == filepath.Join(g.v1["cpu"], id):
			set(dir, "cpu.cfs_period_us", strconv.Itoa(cpuPeriod))
			set(dir, "cpu.cfs_quota_us", quota)
		}
	}
	return made
}

// kill ends all processes in a task's groups; it may have to be repeated.
func (g groups) kill(id string) {
	for _, dir := range g.dirs(id) {
		if g.v2 != "" && os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) == nil {
			continue
		}
		procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(procs)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
			}
		}
	}
}

// oomKilled says whether the kernel killed a process of the task for lack of memory.
func (g groups) oomKilled(id string) bool {
	name := filepath.Join(g.v2, id, "memory.events")
	if g.v2 == "" {
		name = filepath.Join(g.v1["memory"], id, "memory.oom_control")
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "oom_kill" {
			return f[1] != "0"
		}
	}
	return false
}

// remove removes a task's empty groups.
func (g groups) remove(id string) {
	for _, dir := range g.dirs(id) {
		if err := syscall.Rmdir(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
	}
}
