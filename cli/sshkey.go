package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
)

// readKey reads a private SSH key file. Public is an authorized_keys line,
// taken from the .pub file beside it or derived.
func readKey(path, home string) (public, private string, err error) {
	full := expandHome(path, home)
	text, err := os.ReadFile(full)
	if err != nil {
		reason := err
		if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
			reason = pathErr.Err
		}
		return "", "", sentence("Unable to read the SSH key at %s: %v", path, reason)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return "", "", keyFault(path, text, err)
	}
	if pub, err := os.ReadFile(full + ".pub"); err == nil {
		if key, comment, _, _, err := ssh.ParseAuthorizedKey(pub); err == nil && string(key.Marshal()) == string(signer.PublicKey().Marshal()) {
			return strings.TrimSpace(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " " + comment), string(text), nil
		}
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), string(text), nil
}

// keyFault says what is wrong with a key file and how to help it.
func keyFault(path string, text []byte, err error) error {
	if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		return sentence("The SSH key at %s is protected by a passphrase, which a server can't type. Use a key without one: ssh-keygen -t ed25519 -N '' -f %s", path, path+"_dstack")
	}
	if _, _, _, _, public := ssh.ParseAuthorizedKey(text); public == nil {
		return sentence("Expected a private key at %s, got a public key", path)
	}
	return fmt.Errorf("Unsupported or invalid SSH key at %s: %w", path, err) //nolint:staticcheck // the text of 0.22.5
}
