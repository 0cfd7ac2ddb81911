//go:build e2e

package cycles

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// socket is a line of /proc/net/tcp.
type socket struct {
	local        int // port
	state, inode string
}

// States of a socket in /proc/net/tcp.
const (
	established = "01"
	listening   = "0A"
)

// sockets are the TCP sockets of this machine.
func sockets(t *testing.T) []socket {
	t.Helper()
	var all []socket
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[0] == "sl" {
				continue
			}
			_, port, _ := strings.Cut(fields[1], ":")
			local, err := strconv.ParseInt(port, 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, socket{int(local), fields[3], fields[9]})
		}
	}
	return all
}

// owner is the process that listens on a port; 0 for none.
func owner(t *testing.T, port int) int {
	t.Helper()
	for _, s := range sockets(t) {
		if s.local != port || s.state != listening {
			continue
		}
		links, err := filepath.Glob("/proc/[0-9]*/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil && to == "socket:["+s.inode+"]" {
				pid, err := strconv.Atoi(strings.Split(link, "/")[2])
				if err != nil {
					t.Fatal(err)
				}
				return pid
			}
		}
	}
	return 0
}

// files is how many files and sockets a process has open.
func files(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// children is how many processes a process has started that are there.
func children(t *testing.T, pid int) int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ") // its name may hold spaces
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			n++
		}
	}
	return n
}
