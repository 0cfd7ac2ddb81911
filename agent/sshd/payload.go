package sshd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"dstack/agent/pty"
)

// Payloads of requests and channels: RFC 4254, and PROTOCOL of OpenSSH for
// what ends in @openssh.com.
type (
	directTCP struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	directUnix struct {
		Path     string
		Reserved string
		Unused   uint32
	}
	forwardTCP struct {
		Host string
		Port uint32
	}
	forwardUnix struct{ Path string }
	// forwardedUnix is how a connection to a forwarded socket is announced.
	forwardedUnix struct{ Path, Reserved string }
	setVariable   struct{ Name, Value string }
	text          struct{ Text string }
	terminal      struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	windowChange struct{ Columns, Rows, Width, Height uint32 }
	exitStatus   struct{ Status uint32 }
	exitSignal   struct {
		Name           string
		CoreDumped     bool
		Text, Language string
	}
)

// decode reads a payload into one of the above.
func decode[T any](payload []byte) (T, error) {
	var out T
	if err := ssh.Unmarshal(payload, &out); err != nil {
		return out, fmt.Errorf("decode request: %w", err)
	}
	return out, nil
}

// size is what a client says of its window; what no terminal has is capped.
func (w windowChange) size() pty.Size {
	short := func(n uint32) uint16 { return uint16(min(n, 0xffff)) }
	return pty.Size{Columns: short(w.Columns), Rows: short(w.Rows), Width: short(w.Width), Height: short(w.Height)}
}

// Codes of RFC 4254, 8, that are neither characters nor flags.
const (
	modeEnd  = 0
	modeLast = 160
)

// characters are the control characters by code.
var characters = map[byte]int{
	1: unix.VINTR, 2: unix.VQUIT, 3: unix.VERASE, 4: unix.VKILL, 5: unix.VEOF, 6: unix.VEOL, 7: unix.VEOL2,
	8: unix.VSTART, 9: unix.VSTOP, 10: unix.VSUSP, 12: unix.VREPRINT, 13: unix.VWERASE, 14: unix.VLNEXT, 18: unix.VDISCARD,
}

// Flags by code, for input, local, output and control modes.
var (
	inputFlags = map[byte]uint32{
		30: unix.IGNPAR, 31: unix.PARMRK, 32: unix.INPCK, 33: unix.ISTRIP, 34: unix.INLCR, 35: unix.IGNCR, 36: unix.ICRNL,
		37: unix.IUCLC, 38: unix.IXON, 39: unix.IXANY, 40: unix.IXOFF, 41: unix.IMAXBEL, 42: unix.IUTF8,
	}
	localFlags = map[byte]uint32{
		50: unix.ISIG, 51: unix.ICANON, 52: unix.XCASE, 53: unix.ECHO, 54: unix.ECHOE, 55: unix.ECHOK, 56: unix.ECHONL,
		57: unix.NOFLSH, 58: unix.TOSTOP, 59: unix.IEXTEN, 60: unix.ECHOCTL, 61: unix.ECHOKE, 62: unix.PENDIN,
	}
	outputFlags = map[byte]uint32{
		70: unix.OPOST, 71: unix.OLCUC, 72: unix.ONLCR, 73: unix.OCRNL, 74: unix.ONOCR, 75: unix.ONLRET,
	}
	controlFlags = map[byte]uint32{90: unix.CS7, 91: unix.CS8, 92: unix.PARENB, 93: unix.PARODD}
)

// applyModes sets on t what the encoded modes of a client say, as far as they
// can be read.
func applyModes(t *unix.Termios, modes string) {
	for len(modes) >= 5 && modes[0] != modeEnd && modes[0] < modeLast {
		code, value := modes[0], binary.BigEndian.Uint32([]byte(modes[1:5]))
		modes = modes[5:]
		if i, ok := characters[code]; ok {
			if value == 255 { // "not set"
				value = 0
			}
			t.Cc[i] = byte(value)
		}
		for word, flags := range map[*uint32]map[byte]uint32{
			&t.Iflag: inputFlags, &t.Lflag: localFlags, &t.Oflag: outputFlags, &t.Cflag: controlFlags,
		} {
			if flag, ok := flags[code]; ok && value == 0 {
				*word &^= flag
			} else if ok {
				*word |= flag
			}
		}
	}
}

// maxVariable and maxVariables bound what a client may put into an
// environment.
const (
	maxVariable  = 4096
	maxVariables = 64
)

var errVariable = errors.New("variable is not accepted")

// accept says whether a client may set a variable: the list is that of 0.22.5.
func (v setVariable) accept() error {
	known := v.Name == "LANG" || v.Name == "COLORTERM" || v.Name == "NO_COLOR" || strings.HasPrefix(v.Name, "LC_")
	if !known || len(v.Name)+len(v.Value) > maxVariable || strings.ContainsAny(v.Name, "=\x00") || strings.ContainsRune(v.Value, 0) {
		return errVariable
	}
	return nil
}

// signals are those of RFC 4254, 6.10.
var signals = map[string]unix.Signal{
	"ABRT": unix.SIGABRT, "ALRM": unix.SIGALRM, "FPE": unix.SIGFPE, "HUP": unix.SIGHUP, "ILL": unix.SIGILL,
	"INT": unix.SIGINT, "KILL": unix.SIGKILL, "PIPE": unix.SIGPIPE, "QUIT": unix.SIGQUIT, "SEGV": unix.SIGSEGV,
	"TERM": unix.SIGTERM, "USR1": unix.SIGUSR1, "USR2": unix.SIGUSR2,
}

// signalName is how a signal is called in an exit-signal.
func signalName(s unix.Signal) string {
	for name, known := range signals {
		if known == s {
			return name
		}
	}
	return strings.TrimPrefix(unix.SignalName(s), "SIG") + "@openssh.com"
}
