package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// OpenSSH is the SSH server of this machine.
type OpenSSH struct {
	Run Command
	// Address and Port are where it listens.
	Address, Port string
	// PIDFile names its process where systemd does not; Hangup signals that.
	PIDFile string
	Hangup  func(pid string) error
}

// Shows connects as a client does.
func (o *OpenSSH) Shows(ctx context.Context) (string, error) {
	out, err := o.Run(ctx, "ssh-keyscan", "-T", "5", "-t", "ed25519", "-p", o.Port, o.Address)
	if err != nil {
		return "", fmt.Errorf("ask SSH server: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "#") {
			return keyIn(line, 1)
		}
	}
	return "", errors.New("the SSH server does not answer")
}

// Reload reloads the unit, whatever its name is, or signals the process. A
// server that is started for each connection has neither.
func (o *OpenSSH) Reload(ctx context.Context) error {
	unit := o.unit(ctx)
	if unit != "" {
		return o.systemctl(ctx, "reload", unit)
	}
	pid, err := os.ReadFile(o.PIDFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find SSH server: %w", err)
	}
	return o.Hangup(strings.TrimSpace(string(pid)))
}

// Restart starts the unit again, also one that ended when it was reloaded.
func (o *OpenSSH) Restart(ctx context.Context) error {
	for _, unit := range []string{o.unit(ctx), "ssh.service", "sshd.service"} {
		if unit == "" {
			continue
		}
		if err := o.systemctl(ctx, "restart", unit); err == nil {
			return nil
		}
	}
	return errors.New("no unit of an SSH server could be restarted")
}

// unit is the one that runs, empty for none.
func (o *OpenSSH) unit(ctx context.Context) string {
	for _, unit := range []string{"ssh.service", "sshd.service"} {
		if _, err := o.Run(ctx, "systemctl", "is-active", "--quiet", unit); err == nil {
			return unit
		}
	}
	return ""
}

func (o *OpenSSH) systemctl(ctx context.Context, verb, unit string) error {
	if out, err := o.Run(ctx, "systemctl", verb, unit); err != nil {
		return fmt.Errorf("%s %s: %w %s", verb, unit, err, bytes.TrimSpace(out))
	}
	return nil
}
