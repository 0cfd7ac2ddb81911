package hosts

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"

	"dstack/protocol/hostapi"
)

//go:embed probe.sh
var probeScript string

// facts are what the probe found on a host.
type facts struct {
	machine, system, user string
	root, sudo            bool
	sudoError             string
	systemd, gzip         bool
	// SHA-256 of the installed files, empty where there is none.
	shim, agent, unit, env string
	// KiB free for the upload and for the installation; -1 if unknown.
	freeTemp, freeLib int64
}

// parseFacts reads the probe's output, around which a login script may have
// printed whatever it likes.
func parseFacts(out string) (facts, error) {
	_, out, ok := strings.Cut(out, "dstack-probe-begin\n")
	out, _, ok2 := strings.Cut(out, "dstack-probe-end\n")
	if !ok || !ok2 {
		return facts{}, fmt.Errorf("probe host: unexpected output %q", lastLines(out, 3))
	}
	f := facts{freeTemp: -1, freeLib: -1}
	text := map[string]*string{
		"machine": &f.machine, "system": &f.system, "user": &f.user, "sudo_error": &f.sudoError,
		"shim": &f.shim, "agent": &f.agent, "unit": &f.unit, "env": &f.env,
	}
	flag := map[string]*bool{"root": &f.root, "sudo": &f.sudo, "systemd": &f.systemd, "gzip": &f.gzip}
	number := map[string]*int64{"free_temp": &f.freeTemp, "free_lib": &f.freeLib}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if p := text[name]; p != nil {
			*p = value
		}
		if p := flag[name]; p != nil {
			*p = value == "yes"
		}
		if p := number[name]; p != nil {
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				*p = n
			}
		}
	}
	return f, nil
}

// arch is the Go name of the machine's architecture; empty if it is none that
// the shim is built for.
func (f facts) arch() string {
	switch f.machine {
	case "x86_64", "amd64":
		return "amd64"
	case "aarch64", "arm64":
		return "arm64"
	}
	return ""
}

// problem is what keeps the shim from being installed at all.
func (f facts) problem(t Target) *hostapi.Problem {
	switch {
	case f.system != "Linux" || f.arch() == "":
		return &hostapi.Problem{
			Code: codeWrongArch, Permanent: true,
			Message: fmt.Sprintf("%s is %s %s, which dstack does not run on", t.name(), f.system, f.machine),
			Remedy:  "Use a host with 64-bit Linux on x86-64 or arm64",
		}
	case !f.root && !f.sudo:
		message := fmt.Sprintf("User %s cannot become root on %s without a password", f.user, t.name())
		if f.sudoError != "" {
			message += " (" + f.sudoError + ")"
		}
		return &hostapi.Problem{Code: codeNoSudo, Permanent: true, Message: message, Remedy: sudoRemedy(t)}
	}
	return nil
}

// asRoot puts sudo before a command where it is needed.
func (f facts) asRoot(command string) string {
	if f.root {
		return command
	}
	return "sudo -n " + command
}
