package store

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dstack/durable"
	"dstack/protocol/config"
)

// KeyFile is the name of the key that is made where no other is configured.
const KeyFile = "encryption.key"

// KeySource says where the encryption keys are. The first one found encrypts,
// in the order of the fields; all of them decrypt.
type KeySource struct {
	// Config is encryption.keys of config.yml.
	Config []config.EncryptionKey
	// Env is the value of DSTACK_SERVER_ENCRYPTION_KEY: base64 of 32 bytes.
	Env string
	// Dir is the server's folder, where KeyFile lies.
	Dir string
	// Create allows making KeyFile: only while there is no database yet, for
	// a new key would not fit an old one.
	Create bool
}

// LoadSealer reads the keys and, if there are none, makes one.
func LoadSealer(src KeySource) (*Sealer, error) {
	var keys []AESKey
	plain := len(src.Config) > 0 && src.Config[0].Type == config.KeyIdentity
	for i, c := range src.Config {
		if c.Type == config.KeyIdentity {
			continue // plain text is always readable
		}
		if c.Type != config.KeyAES || c.Name == "" || strings.ContainsAny(c.Name, ": \n") {
			return nil, badKey(fmt.Sprintf("config.yml: encryption.keys[%d]", i),
				errors.New(`type must be "aes" or "identity", and an aes key needs an alphanumeric name`))
		}
		k, err := parseKey(c.Name, c.Secret)
		if err != nil {
			return nil, badKey(fmt.Sprintf("config.yml: encryption.keys[%d].secret", i), err)
		}
		keys = append(keys, k)
	}
	if src.Env != "" {
		k, err := parseKey("env", src.Env)
		if err != nil {
			return nil, badKey("DSTACK_SERVER_ENCRYPTION_KEY", err)
		}
		keys = append(keys, k)
	}
	k, err := fileKey(filepath.Join(src.Dir, KeyFile), src.Create && len(keys) == 0 && !plain)
	switch {
	case err == nil:
		keys = append(keys, k)
	case errors.Is(err, fs.ErrNotExist) && (plain || len(keys) > 0):
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Fault{
			Kind: ErrBadKey, Path: filepath.Join(src.Dir, KeyFile), Err: fs.ErrNotExist,
			Remedy: "The database is encrypted with it: restore the file, or set DSTACK_SERVER_ENCRYPTION_KEY to its content.",
		}
	default:
		return nil, err
	}
	s, err := NewSealer(keys...)
	if err != nil {
		return nil, err
	}
	s.plain = plain
	return s, nil
}

func badKey(where string, err error) error {
	return &Fault{Kind: ErrBadKey, Path: where, Err: err, Remedy: "A secret is 32 random bytes in base64: openssl rand -base64 32."}
}

func parseKey(name, secret string) (AESKey, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(secret))
	if err != nil || len(b) != keyBytes {
		// The cause would quote the secret.
		return AESKey{}, errors.New("not base64 of 32 bytes")
	}
	return AESKey{Name: name, Secret: [keyBytes]byte(b)}, nil
}

func fileKey(path string, create bool) (AESKey, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		return makeKey(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return AESKey{}, err
	}
	if err != nil {
		return AESKey{}, badKey(path, err)
	}
	k, err := parseKey("file", string(text))
	if err != nil {
		return AESKey{}, badKey(path, err)
	}
	return k, nil
}

// makeKey writes a new key so that it is either there whole and durable, or
// not at all: what it encrypts would be lost without it.
func makeKey(path string) (AESKey, error) {
	var k AESKey
	k.Name = "file"
	_, _ = rand.Read(k.Secret[:]) // never fails
	text := base64.StdEncoding.EncodeToString(k.Secret[:]) + "\n"
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = durable.WriteFile(path, []byte(text), 0o600)
	}
	if err != nil {
		return AESKey{}, fmt.Errorf("write encryption key: %w", explainOS(path, err))
	}
	return k, nil
}
