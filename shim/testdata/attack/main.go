// Command attack is a hostile job: it prints "reached NAME" for each unix
// socket that it can connect to, of the paths in its arguments and of the
// abstract ones it can see, except its own control.
package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	control, err := net.Listen("unix", "@attack-control")
	if err != nil {
		fmt.Println("control failed:", err)
		os.Exit(1)
	}
	defer control.Close()
	for _, path := range os.Args[1:] {
		try(path)
	}
	_ = filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type() == fs.ModeSocket {
			try(path)
		}
		if err == nil && d.IsDir() && (path == "/proc" || path == "/sys") {
			return filepath.SkipDir
		}
		return nil
	})
	f, err := os.Open("/proc/net/unix")
	if err != nil {
		fmt.Println("list failed:", err)
		os.Exit(1)
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) == 8 {
			try(fields[7])
		}
	}
	fmt.Println("attack over")
}

func try(name string) {
	conn, err := net.DialTimeout("unix", name, time.Second)
	if err != nil {
		return
	}
	conn.Close()
	fmt.Println("reached", name)
}
