package agent

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// memoryKills returns how many processes of our control group the kernel has
// killed for want of memory, 0 where that is not told.
func memoryKills() int {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	for line := range strings.SplitSeq(string(groups), "\n") {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) != 3 {
			continue
		}
		var dir, file string
		switch fields[1] {
		case "":
			dir, file = "/sys/fs/cgroup", "memory.events"
		case "memory":
			dir, file = "/sys/fs/cgroup/memory", "memory.oom_control"
		default:
			continue
		}
		// In a container the path may be that of the host, the mount never is.
		for _, group := range []string{fields[2], "/"} {
			if data, err := os.ReadFile(filepath.Join(dir, group, file)); err == nil {
				return parseKills(string(data))
			}
		}
	}
	return 0
}

// parseKills reads the line "oom_kill N".
func parseKills(events string) int {
	for line := range strings.SplitSeq(events, "\n") {
		if number, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, err := strconv.Atoi(number)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}
