package sshlink_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"dstack/sshlink"
	"dstack/sshlink/sshtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func endpoint(s *sshtest.Server, keys ...string) sshlink.Endpoint {
	return sshlink.Endpoint{Host: s.Host, Port: s.Port, User: "alice", Keys: keys}
}

func dial(t *testing.T, cfg sshlink.Config) *sshlink.Client {
	t.Helper()
	c, err := sshlink.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestDialTakesEveryKeyType(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPEM, edSigner := sshtest.NewKey(t)
	stranger, _ := sshtest.NewKey(t)
	for name, c := range map[string]struct {
		pem    string
		signer ssh.Signer
	}{
		"rsa":     {sshtest.Marshal(t, rsaKey), sshtest.Signer(t, rsaKey)},
		"ecdsa":   {sshtest.Marshal(t, ecKey), sshtest.Signer(t, ecKey)},
		"ed25519": {edPEM, edSigner},
	} {
		t.Run(name, func(t *testing.T) {
			s := sshtest.Start(t, sshtest.Options{
				HostKeys: []ssh.Signer{c.signer}, Authorized: []ssh.PublicKey{c.signer.PublicKey()},
			})
			client := dial(t, sshlink.Config{Endpoint: endpoint(s, stranger, c.pem)})
			if client.HostKey() != s.HostKeys[0] {
				t.Errorf("host key = %q, want %q", client.HostKey(), s.HostKeys[0])
			}
			res, err := client.Run(t.Context(), "cat; echo oops >&2; exit 3", strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			if string(res.Stdout) != "hello" || string(res.Stderr) != "oops\n" || res.Status != 3 {
				t.Errorf("result = %q %q %d", res.Stdout, res.Stderr, res.Status)
			}
		})
	}
}

func TestPinnedKeyIsChosenAmongSeveral(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key, signer := sshtest.NewKey(t)
	_, hostKey := sshtest.NewKey(t)
	s := sshtest.Start(t, sshtest.Options{
		HostKeys:   []ssh.Signer{sshtest.Signer(t, rsaKey), hostKey},
		Authorized: []ssh.PublicKey{signer.PublicKey()},
	})
	for _, pinned := range s.HostKeys {
		e := endpoint(s, key)
		e.HostKeys = []string{pinned}
		if got := dial(t, sshlink.Config{Endpoint: e}).HostKey(); got != pinned {
			t.Errorf("host key = %q, want %q", got, pinned)
		}
	}
}

func TestDialFailures(t *testing.T) {
	key, signer := sshtest.NewKey(t)
	stranger, strangerSigner := sshtest.NewKey(t)
	s := sshtest.Start(t, sshtest.Options{Authorized: []ssh.PublicKey{signer.PublicKey()}})
	other := string(ssh.MarshalAuthorizedKey(strangerSigner.PublicKey()))
	noForward := sshtest.Start(t, sshtest.Options{
		Authorized: []ssh.PublicKey{signer.PublicKey()}, NoForward: true,
	})
	silent := listen(t)
	dropping := listen(t)
	go func() { // ends with the listener
		for {
			c, err := dropping.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	closed := listen(t)
	closedPort := closed.Addr().(*net.TCPAddr).Port
	_ = closed.Close()
	at := func(l net.Listener) sshlink.Endpoint {
		return sshlink.Endpoint{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, User: "alice", Keys: []string{key}}
	}
	changed := endpoint(s, key)
	changed.HostKeys = []string{other}
	badPin := endpoint(s, key)
	badPin.HostKeys = []string{"nonsense"}
	jumpOf := func(e sshlink.Endpoint) *sshlink.Endpoint { return &e }

	for name, c := range map[string]struct {
		cfg  sshlink.Config
		kind sshlink.Kind
		jump bool
		text string
	}{
		"auth":           {sshlink.Config{Endpoint: endpoint(s, stranger)}, sshlink.AuthFailed, false, "user alice: the host accepted none of the keys"},
		"no keys":        {sshlink.Config{Endpoint: endpoint(s)}, sshlink.AuthFailed, false, "none of the keys"},
		"bad key":        {sshlink.Config{Endpoint: endpoint(s, "x")}, sshlink.BadKey, false, "private key 1"},
		"bad pin":        {sshlink.Config{Endpoint: badPin}, sshlink.BadKey, false, "pinned host key"},
		"changed":        {sshlink.Config{Endpoint: changed}, sshlink.HostKeyChanged, false, ssh.FingerprintSHA256(strangerSigner.PublicKey())},
		"refused":        {sshlink.Config{Endpoint: sshlink.Endpoint{Host: "127.0.0.1", Port: closedPort, User: "alice", Keys: []string{key}}}, sshlink.Refused, false, strconv.Itoa(closedPort)},
		"silent":         {sshlink.Config{Endpoint: at(silent), Timeout: 50 * time.Millisecond}, sshlink.Timeout, false, "no answer in time"},
		"dropping":       {sshlink.Config{Endpoint: at(dropping)}, sshlink.Unreachable, false, "connect to 127.0.0.1"},
		"no such name":   {sshlink.Config{Endpoint: sshlink.Endpoint{Host: "host.invalid", User: "a"}}, sshlink.Unreachable, false, "host.invalid:22"},
		"jump auth":      {sshlink.Config{Endpoint: endpoint(s, key), Jump: jumpOf(endpoint(s, stranger))}, sshlink.AuthFailed, true, "jump host"},
		"jump forbids":   {sshlink.Config{Endpoint: endpoint(s, key), Jump: jumpOf(endpoint(noForward, key))}, sshlink.Forbidden, false, "forbids forwarding"},
		"behind jump":    {sshlink.Config{Endpoint: endpoint(s, stranger), Jump: jumpOf(endpoint(s, key))}, sshlink.AuthFailed, false, "none of the keys"},
		"jump silent":    {sshlink.Config{Endpoint: at(silent), Jump: jumpOf(endpoint(s, key)), Timeout: 200 * time.Millisecond}, sshlink.Timeout, false, "no answer in time"},
		"jump to closed": {sshlink.Config{Endpoint: sshlink.Endpoint{Host: "127.0.0.1", Port: closedPort, User: "a"}, Jump: jumpOf(endpoint(s, key))}, sshlink.Unreachable, false, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sshlink.Dial(t.Context(), c.cfg)
			var e *sshlink.Error
			if !errors.As(err, &e) {
				t.Fatalf("error = %v, want a *sshlink.Error", err)
			}
			if e.Kind != c.kind || e.Jump != c.jump {
				t.Errorf("kind, jump = %s, %v, want %s, %v (%v)", e.Kind, e.Jump, c.kind, c.jump, e.Err)
			}
			if !strings.Contains(err.Error(), c.text) {
				t.Errorf("error = %q, want %q in it", err, c.text)
			}
		})
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestHostKeyErrorNamesBothFingerprints(t *testing.T) {
	key, signer := sshtest.NewKey(t)
	_, other := sshtest.NewKey(t)
	_, host := sshtest.NewKey(t)
	s := sshtest.Start(t, sshtest.Options{Authorized: []ssh.PublicKey{signer.PublicKey()}, HostKeys: []ssh.Signer{host}})
	e := endpoint(s, key)
	e.HostKeys = []string{string(ssh.MarshalAuthorizedKey(other.PublicKey()))}
	_, err := sshlink.Dial(t.Context(), sshlink.Config{Endpoint: e})
	var changed *sshlink.HostKeyError
	if !errors.As(err, &changed) {
		t.Fatalf("error = %v", err)
	}
	for _, want := range []string{
		ssh.FingerprintSHA256(other.PublicKey()), ssh.FingerprintSHA256(host.PublicKey()), "reinstalled",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error = %q, want %q in it", err, want)
		}
	}
}

func TestJump(t *testing.T) {
	key, signer := sshtest.NewKey(t)
	opt := sshtest.Options{Authorized: []ssh.PublicKey{signer.PublicKey()}}
	target, jump := sshtest.Start(t, opt), sshtest.Start(t, opt)
	j := endpoint(jump, key)
	c := dial(t, sshlink.Config{Endpoint: endpoint(target, key), Jump: &j})
	if c.HostKey() != target.HostKeys[0] || c.JumpHostKey() != jump.HostKeys[0] {
		t.Errorf("keys = %q, %q", c.HostKey(), c.JumpHostKey())
	}
	res, err := c.Run(t.Context(), "echo through", nil)
	if err != nil || string(res.Stdout) != "through\n" {
		t.Errorf("run = %q, %v", res.Stdout, err)
	}
	jump.Cut()
	<-c.Done()
	if c.Err() == nil {
		t.Error("no cause of the end")
	}
}

func TestDeadPeerIsNoticed(t *testing.T) {
	key, signer := sshtest.NewKey(t)
	s := sshtest.Start(t, sshtest.Options{Authorized: []ssh.PublicKey{signer.PublicKey()}})
	c := dial(t, sshlink.Config{
		Endpoint: endpoint(s, key), KeepAlive: 10 * time.Millisecond, DeadAfter: 200 * time.Millisecond,
	})
	stream, err := c.Stream("cat")
	if err != nil {
		t.Fatal(err)
	}
	s.Hang()
	<-c.Done()
	if !errors.Is(c.Err(), sshlink.ErrDead) {
		t.Errorf("cause = %v, want %v", c.Err(), sshlink.ErrDead)
	}
	if _, err := stream.Read(make([]byte, 1)); err == nil {
		t.Error("a stream of a dead connection can be read")
	}
}

func TestKeepAlivesKeepAQuietConnection(t *testing.T) {
	key, signer := sshtest.NewKey(t)
	s := sshtest.Start(t, sshtest.Options{Authorized: []ssh.PublicKey{signer.PublicKey()}})
	c := dial(t, sshlink.Config{
		Endpoint: endpoint(s, key), KeepAlive: 5 * time.Millisecond, DeadAfter: 500 * time.Millisecond,
	})
	// The command is silent for longer than DeadAfter.
	if _, err := c.Run(t.Context(), "sleep 1", nil); err != nil {
		t.Errorf("run: %v", err)
	}
}

func TestStream(t *testing.T) {
	key, signer := sshtest.NewKey(t)
	s := sshtest.Start(t, sshtest.Options{Authorized: []ssh.PublicKey{signer.PublicKey()}, Noise: "Welcome!\n"})
	c := dial(t, sshlink.Config{Endpoint: endpoint(s, key)})
	stream, err := c.Stream("echo warning >&2; cat")
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("0123456789abcdef"), 256<<10)
	wrote := make(chan error, 1)
	go func() {
		_, err := stream.Write(sent)
		wrote <- err
	}()
	got := make([]byte, len("Welcome!\n")+len(sent))
	if _, err := io.ReadFull(stream, got); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[len("Welcome!\n"):], sent) {
		t.Error("the stream changed what it carried")
	}
	if stream.Stderr() != "warning\n" {
		t.Errorf("stderr = %q", stream.Stderr())
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	key, signer := sshtest.NewKey(t)
	s := sshtest.Start(t, sshtest.Options{Authorized: []ssh.PublicKey{signer.PublicKey()}})
	c := dial(t, sshlink.Config{Endpoint: endpoint(s, key)})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Run(ctx, "exec sleep 60", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v", err)
	}
	if _, err := c.Run(t.Context(), "true", nil); err != nil {
		t.Errorf("the connection did not survive: %v", err)
	}
}
