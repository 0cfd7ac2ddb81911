package hosts

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"dstack/controller/store"
	"dstack/sshlink/sshtest"
)

// hangingHost lets everybody in and then answers nothing but keep-alives.
func hangingHost(t *testing.T) Target {
	t.Helper()
	key, hostKey := sshtest.NewKey(t)
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
		return &ssh.Permissions{}, nil
	}}
	cfg.AddHostKey(hostKey)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				conn, _, requests, err := ssh.NewServerConn(raw, cfg)
				if err != nil {
					return
				}
				wg.Go(func() { ssh.DiscardRequests(requests) })
				_ = conn.Wait()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	addr := l.Addr().(*net.TCPAddr)
	return Target{InstanceID: "i", Access: store.Access{Host: addr.IP.String(), Port: addr.Port, User: "alice", Keys: []string{key}}}
}

// A host that never answers must not hold whoever wants to be rid of it: that
// is a worker of the engine.
func TestAHangingHostHoldsNobody(t *testing.T) {
	target, r := hangingHost(t), newRecorder()
	p := startPool(t, r, func(p *Pool) { p.opt.Payload = testPayload(t, "agent") })
	p.Ensure(target)
	r.await(t, "the key is pinned", func() bool { return len(r.keys) == 1 })
	p.Forget("i")

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Uninstall(ctx, target); err == nil {
		t.Error("uninstalled a host that does not answer")
	}
}
