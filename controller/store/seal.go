package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// keyBytes is the length of an AES-256 key.
const keyBytes = 32

// AESKey is an AES-256 key; Name becomes part of what it encrypts.
type AESKey struct {
	Name   string
	Secret [keyBytes]byte
}

// Sealer encrypts and decrypts single values. The stored form is
// "enc:aes:NAME:PAYLOAD" or "enc:identity:noname:TEXT" (spec:
// server-operations.md 5). It is safe for concurrent use.
type Sealer struct {
	plain bool      // values stay in plain text; keys only decrypt
	keys  []sealKey // the first one encrypts
}

type sealKey struct {
	name string
	aead cipher.AEAD
}

const (
	aesPrefix   = "enc:aes:"
	plainPrefix = "enc:identity:noname:"
)

// NewSealer makes a sealer whose first key encrypts and whose every key
// decrypts; without keys values stay in plain text.
func NewSealer(keys ...AESKey) (*Sealer, error) {
	s := &Sealer{plain: len(keys) == 0}
	for _, k := range keys {
		block, err := aes.NewCipher(k.Secret[:])
		if err != nil {
			return nil, fmt.Errorf("use encryption key %q: %w", k.Name, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("use encryption key %q: %w", k.Name, err)
		}
		s.keys = append(s.keys, sealKey{name: k.Name, aead: aead})
	}
	return s, nil
}

// PlainSealer keeps values in plain text: for tests and for operators who
// chose the identity key.
func PlainSealer() *Sealer { return &Sealer{plain: true} }

// Seal encrypts text with the first key.
func (s *Sealer) Seal(text string) string {
	if s.plain {
		return plainPrefix + text
	}
	k := s.keys[0]
	n := k.aead.NonceSize()
	buf := make([]byte, n, n+len(text)+k.aead.Overhead())
	// crypto/rand.Read never fails: it ends the process instead.
	_, _ = rand.Read(buf)
	buf = k.aead.Seal(buf, buf, []byte(text), nil)
	return aesPrefix + k.name + ":" + base64.StdEncoding.EncodeToString(buf)
}

// Unseal gives back what Seal got. It fails with [ErrWrongKey] when none of
// the keys fits.
func (s *Sealer) Unseal(sealed string) (string, error) {
	if text, ok := strings.CutPrefix(sealed, plainPrefix); ok {
		return text, nil
	}
	rest, ok := strings.CutPrefix(sealed, aesPrefix)
	if !ok {
		return "", fmt.Errorf("%w: a value has an unknown form", ErrWrongKey)
	}
	name, payload, ok := strings.Cut(rest, ":")
	if !ok {
		return "", fmt.Errorf("%w: a value has an unknown form", ErrWrongKey)
	}
	buf, err := base64.StdEncoding.DecodeString(payload)
	if err != nil {
		return "", fmt.Errorf("%w: a value is not base64", ErrWrongKey)
	}
	// Names are a hint only: the same key may have been renamed.
	for _, k := range s.keys {
		n := k.aead.NonceSize()
		if len(buf) < n {
			break
		}
		if text, err := k.aead.Open(nil, buf[:n], buf[n:], nil); err == nil {
			return string(text), nil
		}
	}
	return "", fmt.Errorf("%w: a value was encrypted with key %q", ErrWrongKey, name)
}

// current says whether sealed is what Seal would use now: the first key.
func (s *Sealer) current(sealed string) bool {
	if s.plain || strings.HasPrefix(sealed, plainPrefix) {
		return s.plain && strings.HasPrefix(sealed, plainPrefix)
	}
	_, err := (&Sealer{keys: s.keys[:1]}).Unseal(sealed)
	return err == nil
}

// TokenHash is how a token is found: SHA-256 in hex.
func TokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
