package pty_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dstack/agent/pty"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	master, fd, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	slave := os.NewFile(uintptr(fd), "slave")
	name, err := pty.Name(master)
	if link, linkErr := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); err != nil || linkErr != nil || link != name {
		t.Errorf("%q, %v; the slave is %q, %v", name, err, link, linkErr)
	}
	if err := pty.Change(master, func(s *unix.Termios) { s.Oflag &^= unix.OPOST }); err != nil {
		t.Error(err)
	}
	want := pty.Size{Columns: 132, Rows: 50, Width: 1, Height: 2}
	if err := pty.Resize(master, want); err != nil {
		t.Error(err)
	}
	size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil || (pty.Size{Columns: size.Col, Rows: size.Row, Width: size.Xpixel, Height: size.Ypixel}) != want {
		t.Errorf("%+v, %v", size, err)
	}
	if _, err := slave.WriteString("a\n"); err != nil {
		t.Error(err)
	}
	got := make([]byte, 10)
	n, err := master.Read(got)
	if err != nil || string(got[:n]) != "a\n" { // not "a\r\n": output is not processed any more
		t.Errorf("%q, %v", got[:n], err)
	}
	for _, text := range []string{"rest\n", ""} {
		if _, err := slave.WriteString(text); err != nil {
			t.Error(err)
		}
		if rest, err := pty.Buffered(master, 1<<10); err != nil || string(rest) != text {
			t.Errorf("%q, %v, want %q", rest, err, text)
		}
	}
	if err := slave.Close(); err != nil {
		t.Error(err)
	}
	if err := master.Close(); err != nil {
		t.Error(err)
	}
	if err := pty.Resize(master, want); err == nil || !strings.Contains(err.Error(), "terminal") {
		t.Errorf("closed: %v", err)
	}
}
