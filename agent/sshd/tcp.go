package sshd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"dstack/agent/become"
)

// dialLimit bounds how long a forwarded connection is dialled.
const dialLimit = 30 * time.Second

// directTCP serves a channel that is a connection to somewhere (-L, -D, -W, -J).
func (c *connection) directTCP(ctx context.Context, offer ssh.NewChannel) error {
	target, err := decode[directTCP](offer.ExtraData())
	if err != nil || target.Port > 65535 {
		return errors.Join(err, offer.Reject(ssh.ConnectionFailed, "bad address"))
	}
	if serve := c.server.cfg.Own[target.Port]; serve != nil && loopback(target.Host) {
		return c.answer(ctx, offer, serve)
	}
	conn, err := c.dial(ctx, target.Host, target.Port)
	if err != nil {
		return errors.Join(err, offer.Reject(ssh.ConnectionFailed, err.Error()))
	}
	channel, requests, err := offer.Accept()
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	splice(ctx, channel, requests, conn)
	return nil
}

// answer connects a channel with ourselves.
func (c *connection) answer(ctx context.Context, offer ssh.NewChannel, serve func(net.Conn)) error {
	c.server.own.Add(1)
	defer c.server.own.Add(-1)
	here, there, err := socketPair()
	if err != nil {
		return errors.Join(err, offer.Reject(ssh.ResourceShortage, err.Error()))
	}
	channel, requests, err := offer.Accept()
	if err != nil {
		return errors.Join(err, here.Close(), there.Close())
	}
	serve(there)
	splice(ctx, channel, requests, here)
	return nil
}

func (c *connection) dial(ctx context.Context, host string, port uint32) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	var dialer net.Dialer
	name := strconv.FormatUint(uint64(port), 10)
	if host != "localhost" {
		return dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, name))
	}
	// The image may have no /etc/hosts.
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", name))
	if err != nil {
		if six, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("::1", name)); err == nil {
			return six, nil
		}
	}
	return conn, err
}

// loopback says whether a host name is that of this machine.
func loopback(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || host == "ip6-localhost" || host == "ip6-loopback" {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// forwardTCP listens for connections that go to the client (-R) and returns
// the answer to the request. It listens on the loopback interface whatever
// the client asks for, as OpenSSH does by default.
func (c *connection) forwardTCP(ctx context.Context, payload []byte) ([]byte, error) {
	want, err := decode[forwardTCP](payload)
	if err != nil {
		return nil, err
	}
	if want.Port > 65535 {
		return nil, fmt.Errorf("no port %d", want.Port)
	}
	port := want.Port
	var listeners joined
	err = become.Do(c.account.Credential, func() error {
		for _, ip := range []string{"127.0.0.1", "::1"} {
			l, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.FormatUint(uint64(port), 10)))
			if err != nil {
				if len(listeners) > 0 {
					return nil // there may be no IPv6
				}
				return err
			}
			listeners = append(listeners, l)
			if tcp, ok := l.Addr().(*net.TCPAddr); ok {
				port = uint32(tcp.Port)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := c.forward(ctx, tcpName(want.Host, port), listeners, "forwarded-tcpip", func(conn net.Conn) []byte {
		origin := directTCP{Host: want.Host, Port: port}
		if from, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
			origin.OriginHost, origin.OriginPort = from.IP.String(), uint32(from.Port)
		}
		return ssh.Marshal(origin)
	}); err != nil {
		return nil, err
	}
	if want.Port != 0 {
		return nil, nil
	}
	return ssh.Marshal(struct{ Port uint32 }{port}), nil
}

func (c *connection) cancelTCP(payload []byte) error {
	want, err := decode[forwardTCP](payload)
	if err != nil {
		return err
	}
	return c.cancel(tcpName(want.Host, want.Port))
}

func tcpName(host string, port uint32) string { return fmt.Sprintf("tcp %s %d", host, port) }
