package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"dstack/protocol/version"
)

// Options change how a Client works. The zero value is right for most.
type Options struct {
	// APIVersion goes into X-API-VERSION; empty means the dstack release that
	// this build is compatible with.
	APIVersion string
	// Timeout limits one call, streams aside; 0 means two minutes.
	Timeout time.Duration
	// Patience is how long a call that cannot connect is tried again, and a
	// broken stream is opened again; 0 means one second for calls and one
	// minute for streams.
	Patience time.Duration
}

// Client calls one server as one user. It is safe for concurrent use.
type Client struct {
	base    string // for messages and as the start of URLs
	target  string // as base, but with a host that HTTP accepts
	token   string
	options Options
	http    *http.Client
}

const (
	defaultTimeout        = 2 * time.Minute
	defaultPatience       = time.Second
	defaultStreamPatience = time.Minute
	dialTimeout           = 10 * time.Second
)

// New makes a client for the server at baseURL: http, https, or http+unix
// with a percent-encoded socket path as its host. It does not connect yet.
func New(baseURL, token string, options Options) (*Client, error) {
	base := strings.TrimRight(strings.TrimSpace(baseURL), "/")
	scheme, rest, ok := strings.Cut(base, "://")
	if !ok || rest == "" {
		return nil, fmt.Errorf("server URL %q is not valid: it must start with http:// or https://", baseURL)
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:   dialTimeout,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: defaultTimeout,
		ExpectContinueTimeout: 2 * time.Second,
	}
	target := base
	switch scheme {
	case "http+unix":
		socket, err := url.PathUnescape(rest)
		if err != nil {
			return nil, fmt.Errorf("server URL %q is not valid: %w", baseURL, err)
		}
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", socket)
		}
		target = "http://localhost"
	case "http", "https":
		if u, err := url.Parse(base); err != nil || u.Host == "" {
			return nil, fmt.Errorf("server URL %q is not valid", baseURL)
		}
	default:
		return nil, fmt.Errorf("server URL %q is not valid: it must start with http:// or https://", baseURL)
	}
	if options.APIVersion == "" {
		options.APIVersion = version.Compatible
	}
	if options.Timeout == 0 {
		options.Timeout = defaultTimeout
	}
	return &Client{
		base: base, target: target, token: token, options: options,
		http: &http.Client{Transport: transport, CheckRedirect: keepMethod},
	}, nil
}

// keepMethod stops at a redirect that would turn a POST into a GET.
func keepMethod(next *http.Request, via []*http.Request) error {
	if next.Method != via[0].Method {
		return http.ErrUseLastResponse
	}
	if len(via) >= 5 {
		return errors.New("too many redirects")
	}
	return nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Project gives the calls of one project.
func (c *Client) Project(name string) *Project { return &Project{Client: c, name: name} }

// BaseURL is the address of the server, for messages.
func (c *Client) BaseURL() string { return c.base }
