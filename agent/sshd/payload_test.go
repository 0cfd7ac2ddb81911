package sshd

import (
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

func TestModes(t *testing.T) {
	t.Parallel()
	set := unix.Termios{Lflag: unix.ECHO | unix.ISIG, Cflag: unix.CS7}
	set.Cc[unix.VQUIT] = 28
	applyModes(&set, "\x01\x00\x00\x00\x18"+"\x02\x00\x00\x00\xff"+"\x35\x00\x00\x00\x00"+"\x2a\x00\x00\x00\x01"+"\x46\x00\x00\x00\x01"+
		"\x5b\x00\x00\x00\x01"+"\x80\x00\x00\x96\x00"+"\x00"+"\x32\x00\x00\x00\x00")
	want := unix.Termios{Iflag: unix.IUTF8, Oflag: unix.OPOST, Lflag: unix.ISIG, Cflag: unix.CS8}
	want.Cc[unix.VINTR] = 24
	if set != want {
		t.Errorf("%+v, want %+v", set, want)
	}
}

func TestAcceptVariable(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"LANG": true, "LC_ALL": true, "LC_x y": true, "COLORTERM": true, "NO_COLOR": true,
		"": false, "PATH": false, "LD_PRELOAD": false, "LANGUAGE": false, "XLC_ALL": false, "LC_A=B": false, "LC_\x00": false,
	} {
		if err := (setVariable{name, "value"}).accept(); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, value := range []string{"\x00", strings.Repeat("x", maxVariable)} {
		if (setVariable{"LANG", value}).accept() == nil {
			t.Errorf("%.10q was accepted", value)
		}
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "LocalHost.": true, "127.0.0.1": true, "127.1.2.3": true, "::1": true, "[::1]": true, "::ffff:127.0.0.1": true,
		"": false, "0.0.0.0": false, "localhost.example.com": false, "10.0.0.1": false, "::": false,
	} {
		if loopback(host) != want {
			t.Errorf("%q: %t", host, !want)
		}
	}
}

func FuzzPayload(f *testing.F) {
	f.Add([]byte(""))
	f.Add(ssh.Marshal(terminal{Term: "xterm", Columns: 80, Rows: 24, Modes: "\x35\x00\x00\x00\x00\x00"}))
	f.Add(ssh.Marshal(directTCP{"localhost", 80, "127.0.0.1", 1}))
	f.Add(ssh.Marshal(setVariable{"LANG", "C"}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if p, err := decode[terminal](payload); err == nil {
			var settings unix.Termios
			applyModes(&settings, p.Modes)
		}
		if p, err := decode[setVariable](payload); err == nil && p.accept() == nil && strings.ContainsAny(p.Name, "=\x00") {
			t.Errorf("%q was accepted", p.Name)
		}
		if p, err := decode[windowChange](payload); err == nil {
			_ = p.size()
		}
		if p, err := decode[directTCP](payload); err == nil {
			_ = loopback(p.Host)
		}
		_, _ = decode[directUnix](payload)
		_, _ = decode[forwardTCP](payload)
		_, _ = decode[forwardUnix](payload)
		_, _ = decode[text](payload)
	})
}

func FuzzAuthorizedKeys(f *testing.F) {
	f.Add([]byte("# c\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, key := range parseKeys(data) {
			if key == nil {
				t.Error("no key")
			}
		}
	})
}
