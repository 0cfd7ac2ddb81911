package cli

import (
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// agentSigner is a key in an ssh-agent. Each use asks the agent anew, so that
// a tunnel can log in again hours later.
type agentSigner struct {
	socket string
	key    ssh.PublicKey
}

// agentSigners lists the keys of the ssh-agent at the socket, which may be empty.
func agentSigners(socket string) ([]ssh.Signer, error) {
	if socket == "" {
		return nil, nil
	}
	var signers []ssh.Signer
	err := askAgent(socket, func(keys agent.ExtendedAgent) error {
		all, err := keys.List()
		for _, key := range all {
			public, parsed := ssh.ParsePublicKey(key.Blob)
			if parsed == nil {
				signers = append(signers, agentSigner{socket, public})
			}
		}
		return err //nolint:wrapcheck // askAgent does
	})
	return signers, err
}

func askAgent(socket string, ask func(agent.ExtendedAgent) error) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return fmt.Errorf("connect to the ssh-agent: %w", err)
	}
	if err := errors.Join(ask(agent.NewClient(conn)), conn.Close()); err != nil {
		return fmt.Errorf("ask the ssh-agent: %w", err)
	}
	return nil
}

// PublicKey is the public half.
func (s agentSigner) PublicKey() ssh.PublicKey { return s.key }

// Sign signs with the key's own algorithm.
func (s agentSigner) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(random, data, "")
}

// SignWithAlgorithm signs; RSA keys have several algorithms.
func (s agentSigner) SignWithAlgorithm(_ io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	var flags agent.SignatureFlags
	switch algorithm {
	case ssh.KeyAlgoRSASHA256:
		flags = agent.SignatureFlagRsaSha256
	case ssh.KeyAlgoRSASHA512:
		flags = agent.SignatureFlagRsaSha512
	}
	var signature *ssh.Signature
	err := askAgent(s.socket, func(keys agent.ExtendedAgent) (err error) {
		signature, err = keys.SignWithFlags(s.key, data, flags)
		return err //nolint:wrapcheck // askAgent does
	})
	return signature, err
}
