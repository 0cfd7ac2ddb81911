package hosts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"dstack/controller/store"
	"dstack/protocol/hostapi"
	"dstack/sshlink/sshtest"
)

// rented is a machine of a cloud: its SSH server is real, its shim answers in
// memory. fault is asked at each step.
type rented struct {
	*sshtest.Server
	t      *testing.T
	target Target
	next   ssh.Signer
	rec    *recorder

	mu    sync.Mutex
	fault string // the step that goes wrong once
}

func public(k ssh.Signer) string {
	return string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(k.PublicKey())))
}

func newRented(t *testing.T, fault string) *rented {
	t.Helper()
	login, signer := sshtest.NewKey(t)
	m := &rented{t: t, fault: fault, rec: newRecorder()}
	m.Server = sshtest.Start(t, sshtest.Options{Authorized: []ssh.PublicKey{signer.PublicKey()}})
	_, m.next = sshtest.NewKey(t)
	first := m.HostKeys[0]
	m.target = Target{
		InstanceID: "i", Access: store.Access{Host: m.Host, Port: m.Port, User: "ubuntu", Keys: []string{login}},
		HostKeys: []string{first}, Rented: &Rented{Cloud: "aws", FirstKey: first},
	}
	return m
}

// breaks says whether a step goes wrong now.
func (m *rented) breaks(step string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fault == "" || m.fault != step {
		return false
	}
	m.fault = ""
	return true
}

// routes are those of the shim that are about its host key. An answer is lost
// by cutting the connection.
func (m *rented) routes(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/host-key", func(w http.ResponseWriter, _ *http.Request) {
		if m.breaks("make") {
			m.Cut()
			return
		}
		_ = json.NewEncoder(w).Encode(hostapi.HostKey{Public: public(m.next)})
	})
	mux.HandleFunc("POST /v1/host-key/use", func(w http.ResponseWriter, r *http.Request) {
		var key hostapi.HostKey
		if err := json.NewDecoder(r.Body).Decode(&key); err != nil || key.Public != public(m.next) {
			m.t.Errorf("asked to use %q, %v", key.Public, err)
		}
		if pins := m.pins(); !slices.Contains(pins, key.Public) {
			m.t.Errorf("the key is used, and pinned are only %q", pins)
		}
		if m.breaks("before use") {
			m.Cut()
			return
		}
		m.ShowKeys(m.next)
		if m.breaks("after use") {
			m.Cut()
			return
		}
		_, _ = w.Write([]byte("{}"))
	})
}

func (m *rented) pins() []string {
	m.rec.mu.Lock()
	defer m.rec.mu.Unlock()
	if m.rec.keys == nil {
		return m.target.HostKeys
	}
	return m.rec.keys
}

// start runs a server that knows of the machine what was stored.
func (m *rented) start() *Pool {
	shim := newFakeShim()
	shim.more = m.routes
	pipes := servePipes(m.t, shim)
	p := startPool(m.t, m.rec, func(p *Pool) {
		p.connect = func(ctx context.Context, h *host, t Target) (*connection, error) {
			client, keys, err := dialSSH(ctx, t)
			if err != nil {
				return nil, err
			}
			if err := h.pin(ctx, keys); err != nil {
				return nil, errors.Join(err, client.Close())
			}
			c, err := newConnection(ctx, pipes.dial(), "server")
			if err != nil {
				return nil, errors.Join(err, client.Close())
			}
			c.under = client
			context.AfterFunc(ctx, c.close)
			go func() { // ends with the client
				<-client.Done()
				c.link.close()
			}()
			return c, nil
		}
	})
	target := m.target
	target.HostKeys = m.pins()
	p.Ensure(target)
	return p
}

// Wherever it is interrupted, the machine is never locked out, and in the end
// its first key is worth nothing.
func TestFirstHostKeyIsReplaced(t *testing.T) {
	for _, fault := range []string{"", "make", "before use", "after use", "keys 1", "keys 2"} {
		t.Run(fault, func(t *testing.T) {
			m := newRented(t, fault)
			writes := 0
			m.rec.fail = func(what string) error {
				if what != "keys" {
					return nil
				}
				writes++
				if step := map[int]string{1: "keys 1", 2: "keys 2"}[writes]; m.breaks(step) {
					return errors.New("the disk is full")
				}
				return nil
			}
			m.start()
			m.rec.await(t, "the first key is dropped", func() bool { return slices.Equal(m.rec.keys, []string{public(m.next)}) })
			for _, p := range m.rec.downs {
				if p.Code == codeHostKeyChanged {
					t.Errorf("locked out: %s", p.Message)
				}
			}
		})
	}
}

// A server that starts again finds what is left to do in what it stored.
func TestReplacedHostKeyIsDroppedByTheNextServer(t *testing.T) {
	m := newRented(t, "")
	m.rec.keys = []string{m.HostKeys[0], public(m.next)}
	m.ShowKeys(m.next)
	p := m.start()
	m.rec.await(t, "the first key is dropped", func() bool { return slices.Equal(m.rec.keys, []string{public(m.next)}) })
	m.rec.await(t, "the host is up", func() bool { return len(m.rec.ups) > 0 })
	// What the engine read before does not bring the old key back.
	stale := m.target
	p.Ensure(stale)
	m.Cut()
	m.rec.await(t, "the host is up again", func() bool { return len(m.rec.ups) > 1 })
	for _, d := range m.rec.downs {
		if strings.Contains(d.Code, "host_key") {
			t.Errorf("down: %+v", d)
		}
	}
}

// Only a machine of ours is asked for another key.
func TestHostKeyOfOthersStays(t *testing.T) {
	m := newRented(t, "")
	m.target.Rented = nil
	m.start()
	m.rec.await(t, "the host is up", func() bool { return len(m.rec.ups) > 0 })
	m.rec.mu.Lock()
	defer m.rec.mu.Unlock()
	if m.rec.keys != nil {
		t.Errorf("pinned %q", m.rec.keys)
	}
}
