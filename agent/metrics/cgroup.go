package metrics

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"dstack/protocol/jobapi"
)

// usage reads the job's control group, or adds up its processes.
func (c Config) usage() (*jobapi.Usage, error) {
	groups := c.ownGroups()
	if dir, ok := groups[unified]; ok {
		if u, err := c.unified(dir); err == nil {
			return u, nil
		}
	}
	if cpu, memory := groups["cpuacct"], groups["memory"]; cpu != "" && memory != "" {
		if u, err := c.legacy(cpu, memory); err == nil {
			return u, nil
		}
	}
	return c.processes()
}

// unified names the one hierarchy of control groups version 2.
const unified = ""

// ownGroups are the folders of the job's own control groups by controller.
func (c Config) ownGroups() map[string]string {
	text, err := fs.ReadFile(c.Root, "proc/self/cgroup")
	if err != nil {
		return nil
	}
	mounts := c.groupMounts()
	own := map[string]string{}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		for _, controller := range strings.Split(fields[1], ",") {
			mount, ok := mounts[controller]
			if !ok {
				continue
			}
			dir := mount.folder(fields[2])
			// Without a container the group may be that of the shim, which is
			// everybody's; with one it may be the host's.
			if (c.Isolated || path.Base(fields[2]) == c.JobID) && !c.exists(path.Join(dir, "release_agent")) {
				own[controller] = dir
			}
		}
	}
	return own
}

// groupMount is where a hierarchy is mounted, and which folder of it.
type groupMount struct{ point, root string }

// folder is where the group at a path of the hierarchy is. What lies outside
// of what is mounted is seen as its top: that is the group of the container.
func (m groupMount) folder(group string) string {
	inside, ok := strings.CutPrefix(group, strings.TrimSuffix(m.root, "/"))
	if !ok || strings.HasPrefix(inside, "/..") {
		inside = ""
	}
	return path.Join(m.point, inside)
}

// groupMounts are the mounted hierarchies by controller.
func (c Config) groupMounts() map[string]groupMount {
	text, err := fs.ReadFile(c.Root, "proc/self/mountinfo")
	if err != nil {
		return nil
	}
	mounts := map[string]groupMount{}
	for line := range strings.Lines(string(text)) {
		// ID parent major:minor root point options [tags] - type source options
		before, after, ok := strings.Cut(line, " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 5 || len(tail) < 3 {
			continue
		}
		m := groupMount{point: strings.TrimPrefix(head[4], "/"), root: head[3]}
		switch tail[0] {
		case "cgroup2":
			mounts[unified] = m
		case "cgroup":
			for _, option := range strings.Split(tail[2], ",") {
				mounts[option] = m
			}
		}
	}
	return mounts
}

func (c Config) exists(name string) bool {
	_, err := fs.Stat(c.Root, name)
	return err == nil
}

// unified reads a group of version 2.
func (c Config) unified(dir string) (*jobapi.Usage, error) {
	cpu, err := c.table(path.Join(dir, "cpu.stat"), "usage_usec")
	if err != nil {
		return nil, err
	}
	memory, err := c.number(path.Join(dir, "memory.current"))
	if err != nil {
		return nil, err
	}
	inactive, err := c.table(path.Join(dir, "memory.stat"), "inactive_file")
	if err != nil {
		return nil, err
	}
	return &jobapi.Usage{CPUMicro: cpu, MemoryBytes: memory, WorkingSetBytes: max(memory-inactive, 0)}, nil
}

// legacy reads the groups of version 1, where CPU time is in nanoseconds.
func (c Config) legacy(cpuDir, memoryDir string) (*jobapi.Usage, error) {
	cpu, err := c.number(path.Join(cpuDir, "cpuacct.usage"))
	if err != nil {
		return nil, err
	}
	memory, err := c.number(path.Join(memoryDir, "memory.usage_in_bytes"))
	if err != nil {
		return nil, err
	}
	inactive, err := c.table(path.Join(memoryDir, "memory.stat"), "total_inactive_file")
	if err != nil {
		return nil, err
	}
	return &jobapi.Usage{CPUMicro: cpu / 1000, MemoryBytes: memory, WorkingSetBytes: max(memory-inactive, 0)}, nil
}

// number reads a file that holds one number.
func (c Config) number(name string) (int64, error) {
	text, err := fs.ReadFile(c.Root, name)
	if err != nil {
		return 0, fmt.Errorf("read control group: %w", err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read control group: %s: %w", name, err)
	}
	return n, nil
}

// table reads one value of a file of lines "KEY VALUE".
func (c Config) table(name, key string) (int64, error) {
	text, err := fs.ReadFile(c.Root, name)
	if err != nil {
		return 0, fmt.Errorf("read control group: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		value, ok := strings.CutPrefix(line, key+" ")
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read control group: %s: %w", name, err)
		}
		return n, nil
	}
	return 0, fmt.Errorf("read control group: %s has no %s", name, key)
}
