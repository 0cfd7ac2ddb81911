// Package identity replaces the key with which the SSH server of a machine
// proves who it is. The first key of a rented machine came with its user-data,
// which others can read; the next one never leaves the machine.
package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dstack/durable"
)

// HostKeyPath is where cloud-init puts the machine's only host key, and where
// OpenSSH looks for an ed25519 one.
const HostKeyPath = "/etc/ssh/ssh_host_ed25519_key"

// ErrUnknownKey means that a key is to be used which is not the one made here.
var ErrUnknownKey = errors.New("this is not the key that was made for this machine")

// Command runs a program of the machine and returns what it printed.
type Command func(ctx context.Context, name string, args ...string) ([]byte, error)

// Key is the machine's ed25519 host key. Each step may be repeated, and a
// crash between two leaves an SSH server that lets its clients in: with the old
// key until [Key.Use] has reloaded it, then with the new one.
type Key struct {
	// Path is the private key that the SSH server reads.
	Path string
	// Next is where the new private key is kept, in a folder of root's own.
	Next string
	// Run runs ssh-keygen and sshd.
	Run Command
	// Reload makes the SSH server read its keys anew; connections stay.
	Reload func(context.Context) error
}

// Make is the public key, authorized_keys format without a comment, of the key
// that is to replace the present one. It is made once.
func (k *Key) Make(ctx context.Context) (string, error) {
	public, err := k.public(ctx, k.Next)
	if !errors.Is(err, fs.ErrNotExist) {
		return public, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(k.Next), ".host-key-*")
	if err != nil {
		return "", fmt.Errorf("make host key: %w", err)
	}
	private, err := k.generate(ctx, filepath.Join(dir, "key"))
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		return "", fmt.Errorf("make host key: %w", err)
	}
	if err := durable.WriteFile(k.Next, private, 0o600); err != nil {
		return "", fmt.Errorf("keep host key: %w", err)
	}
	return k.public(ctx, k.Next)
}

func (k *Key) generate(ctx context.Context, path string) ([]byte, error) {
	if _, err := k.Run(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path); err != nil {
		return nil, fmt.Errorf("run ssh-keygen: %w", err)
	}
	return os.ReadFile(path) //nolint:wrapcheck // Make says what for
}

// Use makes the SSH server prove itself with the key that [Key.Make] returned.
// It fails with [ErrUnknownKey] for any other, and leaves the old key in place
// if the SSH server would not start with the new one.
func (k *Key) Use(ctx context.Context, public string) error {
	next, err := k.public(ctx, k.Next)
	if errors.Is(err, fs.ErrNotExist) || err == nil && next != public {
		return ErrUnknownKey
	}
	if err != nil {
		return err
	}
	now, err := k.public(ctx, k.Path)
	if err != nil {
		return err
	}
	if now != next {
		if err := k.install(ctx, next); err != nil {
			return err
		}
	}
	// Also when it is installed already: a crash may have come before this.
	if err := k.Reload(ctx); err != nil {
		return fmt.Errorf("reload SSH server: %w", err)
	}
	return nil
}

func (k *Key) install(ctx context.Context, public string) error {
	old, err := os.ReadFile(k.Path)
	if err != nil {
		return fmt.Errorf("read host key: %w", err)
	}
	private, err := os.ReadFile(k.Next)
	if err != nil {
		return fmt.Errorf("read new host key: %w", err)
	}
	if err := durable.WriteFile(k.Path, private, 0o600); err != nil {
		return fmt.Errorf("install host key: %w", err)
	}
	if _, err := k.Run(ctx, "sshd", "-t"); err != nil {
		err = fmt.Errorf("the SSH server does not take the new host key: %w", err)
		return errors.Join(err, durable.WriteFile(k.Path, old, 0o600))
	}
	// For people only: the SSH server reads the private one.
	if err := durable.WriteFile(k.Path+".pub", []byte(public+"\n"), 0o644); err != nil {
		return fmt.Errorf("install host key: %w", err)
	}
	return nil
}

// public is the public part of a private key in a file.
func (k *Key) public(ctx context.Context, path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find host key: %w", err)
	}
	out, err := k.Run(ctx, "ssh-keygen", "-y", "-P", "", "-f", path)
	if err != nil {
		return "", fmt.Errorf("read host key %s: %w", path, err)
	}
	fields := strings.Fields(string(out))
	if len(fields) < 2 {
		return "", fmt.Errorf("read host key %s: ssh-keygen printed %q", path, out)
	}
	return fields[0] + " " + fields[1], nil
}

// units are what distributions call the SSH server's unit.
var units = []string{"ssh.service", "sshd.service"} //nolint:gochecknoglobals // a constant list

// Reloader reloads the SSH server of this machine: by its unit, whatever its
// name is, or by the process that pidFile names. One that is started for each
// connection reads its keys each time, and has neither.
func Reloader(run Command, pidFile string, hangup func(pid string) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, unit := range units {
			if _, err := run(ctx, "systemctl", "is-active", "--quiet", unit); err != nil {
				continue
			}
			if out, err := run(ctx, "systemctl", "reload", unit); err != nil {
				return fmt.Errorf("reload %s: %w %s", unit, err, bytes.TrimSpace(out))
			}
			return nil
		}
		pid, err := os.ReadFile(pidFile)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find SSH server: %w", err)
		}
		return hangup(strings.TrimSpace(string(pid)))
	}
}
