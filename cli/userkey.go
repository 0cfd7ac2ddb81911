package cli

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // names a file, as 0.22.5 does
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"
)

// loginKey is a private key that opens a run.
type loginKey struct {
	// path is the file with it, for the user's own ssh; private its content.
	path, private string
}

// keyAge is after how long the user's key is asked for again.
const keyAge = 10 * time.Minute

// runKey finds the key that opens a run which was submitted with the public
// key: the one named by the user, else the user's own, which the server
// keeps, else that of old installations (spec: cli.md 12.2).
func (a *App) runKey(ctx context.Context, s *session, identity string, public *string) (loginKey, error) {
	if identity != "" {
		_, private, err := readKey(identity, a.env.Home)
		return loginKey{absolute(expandHome(identity, a.env.Home)), private}, err
	}
	sum := sha1.Sum([]byte(s.token)) //nolint:gosec // names a file
	path := filepath.Join(a.env.Home, ".dstack", "ssh", hex.EncodeToString(sum[:])[:8])
	key, fresh := keptKey(path, time.Now())
	if !fresh || !opens(key, public) {
		key = ""
		user, err := s.MyUser(ctx)
		if err != nil {
			return loginKey{}, err
		}
		if user.SSHPrivateKey != nil && user.SSHPublicKey != nil {
			if err := keepKey(path, *user.SSHPrivateKey, *user.SSHPublicKey); err != nil {
				return loginKey{}, err
			}
			key = *user.SSHPrivateKey
		}
	}
	if opens(key, public) {
		return loginKey{path, key}, nil
	}
	legacy := filepath.Join(a.env.Home, ".dstack", "ssh", "id_rsa")
	if text, err := os.ReadFile(legacy); err == nil {
		return loginKey{legacy, string(text)}, nil
	}
	return loginKey{}, sentence("User SSH key doesn't match; default SSH key (%s) doesn't exist.\n"+
		"The run was submitted with another key: pass it with --ssh-identity.", legacy)
}

// keptKey is the key in a file of ours, and whether it is young enough.
func keptKey(path string, now time.Time) (key string, fresh bool) {
	info, err := os.Stat(path)
	if err != nil || now.Sub(info.ModTime()) > keyAge {
		return "", false
	}
	text, err := os.ReadFile(path)
	return string(text), err == nil
}

// opens says whether the private key belongs to the public one. Without a
// public key any will do.
func opens(private string, public *string) bool {
	signer, err := ssh.ParsePrivateKey([]byte(private))
	if err != nil {
		return false
	}
	if public == nil {
		return true
	}
	want, _, _, _, err := ssh.ParseAuthorizedKey([]byte(*public)) //nolint:dogsled // that is its signature
	return err == nil && bytes.Equal(want.Marshal(), signer.PublicKey().Marshal())
}

// keepKey writes a key pair for ssh. Others may read the files meanwhile.
func keepKey(path, private, public string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make folder for SSH keys: %w", err)
	}
	for _, file := range []struct{ path, text string }{{path + ".pub", public}, {path, private}} {
		if err := replaceFile(file.path, file.text); err != nil {
			return fmt.Errorf("keep SSH key: %w", err)
		}
	}
	return nil
}

// replaceFile puts text at path in one step; only the owner may read it.
func replaceFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err //nolint:wrapcheck // names the file
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err //nolint:wrapcheck // names the file
}

func absolute(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		return full
	}
	return path
}
