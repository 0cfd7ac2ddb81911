//go:build unix

package transfer

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"dstack/protocol/jobssh"
)

// jobServer is the SSH server of a job whose home is a folder of this test.
type jobServer struct {
	t    *testing.T
	home string
	// plain servers compute no checksums.
	plain bool
	// lie is the SFTP of a job that can't be trusted.
	lie *sftp.Handlers
	// cutAfter ends a connection once so many bytes have come; each cut takes
	// the next one.
	cutAfter []int64
	config   *ssh.ServerConfig
	listener net.Listener
	wg       sync.WaitGroup
	logins   atomic.Int64
	sums     atomic.Int64

	mu    sync.Mutex
	conns []net.Conn
}

func newJobServer(t *testing.T, change ...func(*jobServer)) *jobServer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s := &jobServer{t: t, home: t.TempDir(), config: &ssh.ServerConfig{NoClientAuth: true}}
	s.config.AddHostKey(signer)
	if s.listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(s)
	}
	s.wg.Go(s.accept)
	t.Cleanup(func() {
		_ = s.listener.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *jobServer) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		var cut int64
		if len(s.cutAfter) > 0 {
			cut, s.cutAfter = s.cutAfter[0], s.cutAfter[1:]
		}
		conn = &cutConn{Conn: conn, left: cut}
		s.conns = append(s.conns, conn)
		s.mu.Unlock()
		s.wg.Go(func() { s.serve(conn) })
	}
}

// cutConn breaks after so many bytes, of both directions; 0 means never.
type cutConn struct {
	net.Conn

	mu   sync.Mutex
	left int64
}

func (c *cutConn) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left > 0 {
		if c.left -= int64(n); c.left <= 0 {
			_ = c.Close()
		}
	}
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.count(n)
	return n, err
}

func (c *cutConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.count(n)
	return n, err
}

func (s *jobServer) serve(raw net.Conn) {
	defer raw.Close()
	conn, channels, requests, err := ssh.NewServerConn(raw, s.config)
	if err != nil {
		return
	}
	s.logins.Add(1)
	s.wg.Go(func() { ssh.DiscardRequests(requests) })
	for offer := range channels {
		channel, requests, err := offer.Accept()
		if err != nil {
			continue
		}
		s.wg.Go(func() {
			for r := range requests {
				s.request(channel, r)
			}
		})
	}
	_ = conn.Wait()
}

func (s *jobServer) request(channel ssh.Channel, r *ssh.Request) {
	switch {
	case r.Type == "subsystem":
		_ = r.Reply(true, nil)
		s.wg.Go(func() { s.sftp(channel) })
	case r.Type == jobssh.Sum && !s.plain:
		s.sums.Add(1)
		_ = r.Reply(true, nil)
		var f jobssh.File
		text, err := "", json.Unmarshal(r.Payload, &f)
		if err == nil {
			text, err = s.sum(f)
		}
		if err != nil {
			_, _ = fmt.Fprintln(channel.Stderr(), err)
		}
		_, _ = io.WriteString(channel, text)
		_ = channel.Close()
	default:
		_ = r.Reply(false, nil)
	}
}

func (s *jobServer) sum(f jobssh.File) (string, error) {
	in, err := os.Open(f.Path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	h := sha256.New()
	_, err = io.CopyN(h, in, f.Length)
	return hex.EncodeToString(h.Sum(nil)), err
}

func (s *jobServer) sftp(channel ssh.Channel) {
	defer channel.Close()
	if s.lie != nil {
		_ = sftp.NewRequestServer(channel, *s.lie).Serve()
		return
	}
	server, err := sftp.NewServer(channel)
	if err == nil {
		_ = server.Serve()
	}
}

// connector dials anew whenever the last connection ended, as a tunnel does.
func (s *jobServer) connector() func(context.Context) (*ssh.Client, error) {
	var mu sync.Mutex
	var client *ssh.Client
	var ended chan struct{}
	s.t.Cleanup(func() {
		if client != nil {
			_ = client.Close()
			<-ended
		}
	})
	return func(ctx context.Context) (*ssh.Client, error) {
		mu.Lock()
		defer mu.Unlock()
		if client != nil {
			select {
			case <-ended:
			default:
				return client, nil
			}
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		var made *ssh.Client
		err := errors.New("not dialled")
		for n := 0; n < 3 && err != nil; n++ {
			made, err = ssh.Dial("tcp", s.listener.Addr().String(), &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		}
		if err != nil {
			return nil, errors.New("the job does not answer")
		}
		client, ended = made, make(chan struct{})
		done := ended
		s.wg.Go(func() {
			defer close(done)
			_ = made.Wait()
		})
		return client, nil
	}
}

// copier is one for this job; what it warns of is collected.
func (s *jobServer) copier() (c *Copier, warned *[]string) {
	warned = &[]string{}
	c = New(Job{Name: "run", Connect: s.connector()}, func(text string) { *warned = append(*warned, text) })
	s.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return c, warned
}
