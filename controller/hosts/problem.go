package hosts

import (
	"errors"
	"fmt"
	"strings"

	"dstack/protocol/hostapi"
	"dstack/sshlink"
)

// Codes of hostapi.Problem that are found while connecting.
const (
	codeClaimed        = "claimed"
	codeOccupied       = "occupied"
	codeUnreachable    = "unreachable"
	codeAuthFailed     = "auth_failed"
	codeHostKeyChanged = "host_key_changed"
	codeWrongArch      = "wrong_arch"
	codeNoSudo         = "no_sudo"
	codeNoSpace        = "no_space"
	codeDeployFailed   = "deploy_failed"
)

// name is how messages call the host of a target.
func (t Target) name() string {
	if t.Access.Local {
		return "this machine"
	}
	name := t.Access.User + "@" + t.Access.Host
	if t.Access.Port != 0 && t.Access.Port != 22 {
		name = fmt.Sprintf("%s:%d", name, t.Access.Port)
	}
	return name
}

// problemOf puts into words why a host cannot be used.
func problemOf(t Target, err error) *hostapi.Problem {
	var known *hostapi.Problem
	if errors.As(err, &known) {
		return known
	}
	var link *sshlink.Error
	if errors.As(err, &link) {
		return linkProblem(t, link)
	}
	if errors.Is(err, ErrNoPayload) {
		return &hostapi.Problem{
			Code: codeDeployFailed, Permanent: true,
			Message: "Cannot install dstack-shim on " + t.name() + ": this build of the server has no shim inside",
			Remedy:  "Build the server with `make build` and start that one",
		}
	}
	return &hostapi.Problem{
		Code:    codeUnreachable,
		Message: fmt.Sprintf("Lost the connection to %s: %v", t.name(), err),
		Remedy:  "The server keeps trying; if this lasts, check the host and the network",
	}
}

// claimProblem is why this server may not use a host on which a shim runs, nil
// if it may.
func claimProblem(t Target, l layout, info hostapi.Info) error {
	if info.Claim == "" {
		return nil
	}
	return &hostapi.Problem{
		Code: codeClaimed, Permanent: true,
		Message: fmt.Sprintf("Cannot use %s: %s", t.name(), info.Claim),
		Remedy: fmt.Sprintf("Remove the host from the fleet of that server (`dstack fleet delete FLEET -i NUM` there). "+
			"If that server is gone for good, delete the file %s/%s on the host. Then apply the fleet again", l.home, hostapi.ClaimName),
	}
}

func linkProblem(t Target, e *sshlink.Error) *hostapi.Problem {
	p := &hostapi.Problem{
		Code:    codeUnreachable,
		Message: fmt.Sprintf("Cannot reach %s: %v", t.name(), e),
		Remedy:  "Check that the host is up, that its address and port are right, and that the server may connect to it",
	}
	switch e.Kind {
	case sshlink.AuthFailed:
		p.Code, p.Permanent = codeAuthFailed, true
		p.Remedy = fmt.Sprintf("Add the public key of identity_file to ~/.ssh/authorized_keys of %s on %s, or correct user and identity_file",
			e.User, e.Host)
	case sshlink.HostKeyChanged:
		p.Code, p.Permanent = codeHostKeyChanged, true
		p.Remedy = "If the host was reinstalled, delete it from the fleet (`dstack fleet delete FLEET -i NUM`) and apply the fleet again"
	case sshlink.BadKey:
		p.Code, p.Permanent = codeAuthFailed, true
		p.Remedy = "Give an unencrypted RSA, ECDSA or Ed25519 private key as identity_file"
	case sshlink.Forbidden:
		p.Permanent = true
		p.Remedy = "Set `AllowTcpForwarding yes` in the sshd_config of the jump host"
	case sshlink.Unreachable, sshlink.Refused, sshlink.Timeout:
	}
	return p
}

// deployProblem reads the reason out of what a failed step printed.
func deployProblem(t Target, step, output string) *hostapi.Problem {
	output = lastLines(output, 5)
	p := &hostapi.Problem{
		Code:    codeDeployFailed,
		Message: fmt.Sprintf("Cannot install dstack-shim on %s: %s: %s", t.name(), step, output),
		Remedy:  "Correct this on the host; the server keeps trying",
	}
	switch {
	case strings.Contains(output, "No space left on device"), strings.Contains(output, "Disk quota exceeded"):
		p.Code = codeNoSpace
		p.Remedy = "Free disk space on the host (about 50 MB in /tmp and /usr/local are needed)"
	case strings.Contains(output, "Read-only file system"):
		p.Permanent = true
		p.Remedy = "Make /usr/local, /etc/systemd and /root writable on the host"
	case strings.Contains(output, "sudo:"):
		p.Code, p.Permanent = codeNoSudo, true
		p.Remedy = sudoRemedy(t)
	}
	return p
}

func sudoRemedy(t Target) string {
	return fmt.Sprintf("Allow it with a line `%s ALL=(ALL) NOPASSWD:ALL` in /etc/sudoers.d/dstack, or use the user root", t.Access.User)
}

// lastLines keeps the end of an output, on one line.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	lines = lines[max(0, len(lines)-n):]
	return strings.ToValidUTF8(strings.Join(lines, "; "), "?")
}
