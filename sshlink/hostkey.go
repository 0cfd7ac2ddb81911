package sshlink

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// pins are the host keys that are accepted; none means the first one seen.
type pins struct {
	addr string
	keys []ssh.PublicKey
	// seen is the key that the host proved; err why it was not accepted.
	seen ssh.PublicKey
	err  *HostKeyError
}

func parsePins(addr string, lines []string) (*pins, error) {
	p := &pins{addr: addr}
	for _, line := range lines {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, fmt.Errorf("parse pinned host key of %s: %w", addr, err)
		}
		p.keys = append(p.keys, key)
	}
	return p, nil
}

// CheckKey says whether a line is one public key as [Client.HostKey] returns it.
func CheckKey(line string) error {
	key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return fmt.Errorf("parse public key: %w", err)
	}
	if len(rest) > 0 || marshalKey(key) != line {
		return fmt.Errorf("%q is not one public key", line)
	}
	return nil
}

func (p *pins) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	if len(p.keys) == 0 {
		p.seen = key
		return nil
	}
	for _, k := range p.keys {
		if bytes.Equal(k.Marshal(), key.Marshal()) {
			p.seen = key
			return nil
		}
	}
	p.err = &HostKeyError{Host: p.addr, Got: ssh.FingerprintSHA256(key)}
	for _, k := range p.keys {
		p.err.Expected = append(p.err.Expected, ssh.FingerprintSHA256(k))
	}
	return p.err
}

// algorithms puts those of the pinned keys first, so that a host with several
// keys presents the pinned one. Certificates are left out: what is pinned is a key.
func (p *pins) algorithms() []string {
	var first, rest []string
	for _, a := range ssh.SupportedAlgorithms().HostKeys {
		switch {
		case strings.Contains(a, "-cert-"):
		case slices.ContainsFunc(p.keys, func(k ssh.PublicKey) bool { return keyType(a) == k.Type() }):
			first = append(first, a)
		default:
			rest = append(rest, a)
		}
	}
	return append(first, rest...)
}

// keyType is the type of key behind a signature algorithm.
func keyType(algorithm string) string {
	switch algorithm {
	case ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512:
		return ssh.KeyAlgoRSA
	}
	return algorithm
}

func marshalKey(k ssh.PublicKey) string {
	return strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(k)), "\n")
}
