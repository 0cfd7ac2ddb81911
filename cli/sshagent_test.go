package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"dstack/cli/tunnel"
	"dstack/sshlink"
	"dstack/sshlink/sshtest"
)

// serveAgent is an ssh-agent with one key.
func serveAgent(t *testing.T, private any) (socket string) {
	t.Helper()
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var workers sync.WaitGroup
	workers.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			workers.Go(func() {
				_ = agent.ServeAgent(keys, conn) // ends with the connection
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		workers.Wait()
	})
	return socket
}

// TestProxyJumpWithSSHAgent goes through a jump host that only the ssh-agent
// has a key for, and through the job's host.
func TestProxyJumpWithSSHAgent(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, private := range map[string]any{"rsa": rsaKey, "ecdsa": ecKey} {
		signers, err := agentSigners(serveAgent(t, private))
		if err != nil || len(signers) != 1 {
			t.Fatalf("%s: %d keys, %v", name, len(signers), err)
		}
		key, signer := sshtest.NewKey(t)
		jump := sshtest.Start(t, sshtest.Options{Authorized: []ssh.PublicKey{signers[0].PublicKey()}})
		own := sshtest.Options{Authorized: []ssh.PublicKey{signer.PublicKey()}}
		host, job := sshtest.Start(t, own), sshtest.Start(t, own)
		way := tunnel.NewDirect([]sshlink.Endpoint{
			{Host: jump.Host, Port: jump.Port, User: "me", Signers: signers},
			{Host: host.Host, Port: host.Port, User: "ubuntu", Keys: []string{key}},
		}, tunnel.Hop{Host: job.Host, Port: job.Port}.Addr())
		tun, err := tunnel.Open(t.Context(), tunnel.Config{Ways: []tunnel.Way{way}, Users: []string{"root"}, Keys: []string{key}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := tun.Close(); err != nil {
			t.Error(err)
		}
	}
}
