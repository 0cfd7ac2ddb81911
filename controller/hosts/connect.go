package hosts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"dstack/protocol/hostapi"
	"dstack/sshlink"
)

// jumpPrefix marks the jump host's key in Target.HostKeys.
const jumpPrefix = "jump "

// connection is a link to a shim of this build, and what carries it.
type connection struct {
	*link
	info hostapi.Info
	// under ends what carries the link; nil for a unix socket.
	under *sshlink.Client
}

// close may be called twice. What carries the link goes first: a peer that
// reads nothing makes even a farewell wait.
func (c *connection) close() {
	if c.under != nil {
		_ = c.under.Close() // it is given up in any case
	}
	c.link.close()
}

// connectTimeout bounds a whole deployment: its steps know their limits, but
// wait for a host that answers no request at all.
const connectTimeout = 15 * time.Minute

var errNotConnected = fmt.Errorf("the host did not answer as an SSH server does within %s", connectTimeout)

// endWith closes the client when ctx ends, until the function that it returns
// is called: requests on an SSH connection know no context.
func endWith(ctx context.Context, client *sshlink.Client) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = client.Close() })
}

// errShimEnded says that SSH works and the shim does not.
var errShimEnded = errors.New("dstack-shim ended; it is being started again")

// cause is why the connection ended, in the terms of the layer that noticed.
func (c *connection) cause(err error) error {
	if c.under != nil {
		// Both layers see the end of a connection at nearly the same time.
		timer := time.NewTimer(20 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-c.under.Done():
			return linkEnd(c.under.Err())
		case <-timer.C:
		}
	}
	if errors.Is(err, errStreamEnded) || errors.Is(err, ErrDown) {
		return errShimEnded
	}
	return err
}

// linkEnd words the end of an SSH connection.
func linkEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the host closed the SSH connection")
	}
	return fmt.Errorf("SSH connection: %w", err)
}

// dialSSH logs in, and returns the host keys seen in the format of Target.HostKeys.
func dialSSH(ctx context.Context, t Target) (*sshlink.Client, []string, error) {
	a := t.Access
	cfg := sshlink.Config{Endpoint: sshlink.Endpoint{Host: a.Host, Port: a.Port, User: a.User, Keys: a.Keys}}
	if a.Jump != nil {
		cfg.Jump = &sshlink.Endpoint{Host: a.Jump.Host, Port: a.Jump.Port, User: a.Jump.User, Keys: a.Jump.Keys}
		cfg.Timeout = 15 * time.Second
	}
	for _, key := range t.HostKeys {
		if jump, ok := strings.CutPrefix(key, jumpPrefix); !ok {
			cfg.HostKeys = append(cfg.HostKeys, key)
		} else if cfg.Jump != nil {
			cfg.Jump.HostKeys = append(cfg.Jump.HostKeys, jump)
		}
	}
	client, err := sshlink.Dial(ctx, cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to host: %w", err)
	}
	keys := []string{client.HostKey()}
	if a.Jump != nil {
		keys = append(keys, jumpPrefix+client.JumpHostKey())
	}
	return client, keys, nil
}

// connectSSH leads to a running shim of this build over an SSH connection,
// installing and starting it where needed.
func connectSSH(ctx context.Context, r *remote, deploy *slots) (*connection, error) {
	if err := r.probe(ctx); err != nil {
		return nil, err
	}
	files, err := r.missing()
	if err != nil {
		return nil, err
	}
	want, err := r.payload.find("dstack-shim", r.facts.arch())
	if err != nil {
		return nil, err
	}
	var old predecessor
	if r.facts.shim != "" && r.facts.shim != want.Digest {
		if old, err = r.predecessor(ctx); err != nil {
			return nil, err
		}
		if problem := old.problem(r.target); problem != nil {
			return nil, problem
		}
	}
	if old.is {
		return r.deploy(ctx, files, want.Digest, deploy) // its shim has no `dial`
	}
	if c, err := r.dialShim(ctx); err == nil {
		if c.info.Claim == "" && c.info.Digest == want.Digest && len(files) == 0 {
			return c, nil
		}
		c.link.close() // another one runs
		if err := claimProblem(r.target, r.layout, c.info); err != nil {
			return nil, err
		}
	}
	return r.deploy(ctx, files, want.Digest, deploy)
}

// deploy installs what is missing and starts the shim.
func (r *remote) deploy(ctx context.Context, files []upload, digest string, deploy *slots) (*connection, error) {
	if len(files) > 0 {
		if err := deploy.use(ctx, func() error { return r.install(ctx, files) }); err != nil {
			return nil, err
		}
	}
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	return r.awaitShim(ctx, digest)
}

// dialShim opens a link to the shim that runs now.
func (r *remote) dialShim(ctx context.Context) (*connection, error) {
	stream, err := r.client.Stream(r.facts.asRoot(r.layout.command("dial")))
	if err != nil {
		return nil, fmt.Errorf("start dstack-shim dial: %w", err)
	}
	c, err := greet(ctx, stream, r.server)
	if err != nil {
		if said := lastLines(stream.Stderr(), 3); said != "" {
			err = fmt.Errorf("%w (%s)", err, said)
		}
		return nil, err
	}
	c.under = r.client
	return c, nil
}

// awaitShim dials until the shim that was just started answers.
func (r *remote) awaitShim(ctx context.Context, digest string) (*connection, error) {
	c, err := await(ctx, digest, r.dialShim)
	if err == nil || ctx.Err() != nil || r.client.Err() != nil {
		return c, err
	}
	output := err.Error()
	log, logErr := r.script(ctx, r.facts.asRoot("/bin/sh -s"), map[string]string{
		"UNIT": hostapi.Unit, "LOG": r.layout.home + "/" + hostapi.LogName,
	}, `journalctl -q -n 3 -o cat -u "$UNIT" 2>/dev/null || tail -n 3 "$LOG"`)
	if logErr == nil {
		output = string(log.Stdout) + output
	}
	return nil, deployProblem(r.target, "dstack-shim does not start", output)
}

// await tries to reach a shim that is starting.
func await(ctx context.Context, digest string, dial func(context.Context) (*connection, error)) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for n := 0; ; n++ {
		c, err := dial(ctx)
		if err == nil && c.info.Digest == digest {
			return c, nil
		}
		if err == nil {
			c.link.close()
			err = errors.New("an older dstack-shim keeps running")
		}
		if sleep(ctx, double(20*time.Millisecond, n, 500*time.Millisecond)) != nil {
			return nil, err
		}
	}
}

// greet makes a link of a stream that starts with the magic, and asks who is there.
func greet(ctx context.Context, conn net.Conn, server string) (*connection, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	timer := time.AfterFunc(callTimeout, func() { _ = conn.Close() })
	buf := bufio.NewReader(conn)
	err := skipPreamble(buf)
	timer.Stop()
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close() // err says why
		return nil, err
	}
	return newConnection(ctx, &readAhead{conn, buf}, server)
}

func newConnection(ctx context.Context, conn net.Conn, server string) (*connection, error) {
	l, err := newLink(ctx, conn, server)
	if err != nil {
		return nil, err
	}
	c := &connection{link: l}
	if err := l.call(ctx, http.MethodGet, "/v1/info", nil, &c.info); err != nil {
		l.close()
		return nil, fmt.Errorf("ask the shim for its facts: %w", err)
	}
	return c, nil
}

// slots bounds how many deployments go on at once.
type slots struct{ free chan struct{} }

func newSlots(n int) *slots { return &slots{make(chan struct{}, n)} }

func (s *slots) use(ctx context.Context, do func() error) error {
	select {
	case s.free <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for other deployments: %w", context.Cause(ctx))
	}
	defer func() { <-s.free }()
	return do()
}
