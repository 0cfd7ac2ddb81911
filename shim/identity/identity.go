// Package identity replaces the key with which the SSH server of a machine
// proves who it is. The first key of a rented machine came with its user-data,
// which others can read; the next one never leaves the machine.
package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

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
// crash between two leaves an SSH server that lets its clients in, with one of
// the two keys.
type Key struct {
	// Path is the private key that the SSH server reads.
	Path string
	// Next is where the new private key is kept, in a folder of root's own.
	Next string
	// Run runs ssh-keygen and sshd.
	Run Command
	// Server is what reads the key.
	Server Server
}

// Server is the machine's SSH server. Connections outlive what is done to it.
type Server interface {
	// Shows is the public key with which it proves itself now.
	Shows(ctx context.Context) (string, error)
	// Reload makes it read its keys anew, Restart starts it again.
	Reload(ctx context.Context) error
	Restart(ctx context.Context) error
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
	return k.shown(ctx, next)
}

// Limits of how long an SSH server may take to show a key.
const (
	shownAgain = 100 * time.Millisecond
	shownAfter = 5 * time.Second
)

// shown returns when the SSH server shows the key. Most read it at each
// connection: those are left alone, because one that is told to reload while it
// starts ends, and nobody starts it again.
func (k *Key) shown(ctx context.Context, public string) error {
	err := k.await(ctx, public, 0)
	for _, step := range []func(context.Context) error{k.Server.Reload, k.Server.Restart} {
		if err == nil || ctx.Err() != nil {
			break
		}
		if err = step(ctx); err == nil {
			err = k.await(ctx, public, shownAfter)
		}
	}
	if err != nil {
		return fmt.Errorf("the SSH server does not show its new host key: %w", err)
	}
	return nil
}

func (k *Key) await(ctx context.Context, public string, limit time.Duration) error {
	for end := time.Now().Add(limit); ; {
		shown, err := k.Server.Shows(ctx)
		if err == nil && shown == public {
			return nil
		}
		if err == nil {
			err = errors.New("it shows another one")
		}
		if ctx.Err() != nil || !time.Now().Before(end) {
			return err
		}
		time.Sleep(shownAgain)
	}
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
	return keyIn(string(out), 0)
}

// keyIn is the key in what a program of OpenSSH printed, after some words.
func keyIn(line string, words int) (string, error) {
	fields := strings.Fields(line)
	if len(fields) < words+2 {
		return "", fmt.Errorf("no host key in %q", line)
	}
	return fields[words] + " " + fields[words+1], nil
}
