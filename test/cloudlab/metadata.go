//go:build e2e

package cloudlab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"dstack/test/lab"
)

// metadataAddress is where the metadata of all machines is served; they reach
// it as 169.254.169.254.
const metadataAddress = lab.Gateway + ":5080"

// redirectMetadata sends what machines say to the metadata address to us. The
// rule is always the same, and without a lab nothing comes from its bridge.
func redirectMetadata(ctx context.Context) error {
	rule := []string{"PREROUTING", "-i", lab.Bridge, "-d", "169.254.169.254", "-p", "tcp", "--dport", "80", "-j", "DNAT", "--to-destination", metadataAddress}
	if exec.CommandContext(ctx, "iptables", append([]string{"-t", "nat", "-C"}, rule...)...).Run() == nil {
		return nil
	}
	if out, err := exec.CommandContext(ctx, "iptables", append([]string{"-t", "nat", "-I"}, rule...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("redirect the metadata address: %w: %s", err, out)
	}
	return nil
}

type connKey struct{}

func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// metadata is IMDSv2 with what the shim, cloud-init and thieves ask for.
func (c *Cloud) metadata() http.Handler {
	token := rand.Text()
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, r *http.Request) {
		m := c.sender(r)
		if m == nil || r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") == "" {
			http.Error(w, "Bad Request", http.StatusBadRequest)
			return
		}
		c.report(limitHops(r, m.hops))
		_, _ = w.Write([]byte(token))
	})
	mux.HandleFunc("GET /latest/{path...}", func(w http.ResponseWriter, r *http.Request) {
		m := c.sender(r)
		if m == nil || r.Header.Get("X-Aws-Ec2-Metadata-Token") != token {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		text, ok := c.datum(m, r.PathValue("path"))
		if !ok {
			http.Error(w, "Not Found", http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(text))
	})
	return mux
}

// sender is the machine from which a request comes.
func (c *Cloud) sender(r *http.Request) *Machine {
	ip, _, _ := net.SplitHostPort(r.RemoteAddr)
	for _, m := range c.Machines() {
		if m.Host.IP == ip {
			return m
		}
	}
	return nil
}

func (c *Cloud) datum(m *Machine, path string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch strings.TrimSuffix(path, "/") {
	case "user-data":
		return m.UserData, true
	case "meta-data/instance-id":
		return m.ID, true
	case "meta-data/instance-type":
		return m.Type, true
	case "meta-data/local-ipv4", "meta-data/public-ipv4":
		return m.Host.IP, true
	case "meta-data/placement/availability-zone":
		return m.Zone, true
	case "meta-data/iam/security-credentials":
		return "lab-role", true
	case "meta-data/iam/security-credentials/lab-role":
		return `{"Code": "Success", "AccessKeyId": "ASIALAB", "SecretAccessKey": "stolen", "Token": "stolen"}`, true
	case "meta-data/spot/instance-action":
		at := m.interrupted.UTC().Format(time.RFC3339)
		return `{"action": "terminate", "time": "` + at + `"}`, !m.interrupted.IsZero()
	case "meta-data/spot/termination-time":
		return m.interrupted.UTC().Format(time.RFC3339), !m.interrupted.IsZero()
	case "meta-data/events/recommendations/rebalance":
		return `{"noticeTime": "` + m.rebalance.UTC().Format(time.RFC3339) + `"}`, !m.rebalance.IsZero()
	}
	return "", false
}

// limitHops sets how many routers the answer passes: one is the machine itself,
// so a container behind it gets no answer.
func limitHops(r *http.Request, hops int) error {
	conn, ok := r.Context().Value(connKey{}).(*net.TCPConn)
	if !ok {
		return errors.New("the metadata connection is no TCP connection")
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("look into the metadata connection: %w", err)
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TTL, hops) })
	return errors.Join(err, set)
}
