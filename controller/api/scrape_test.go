package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// counted is what was told to a fake of Prometheus' exporter.
type counted struct {
	mu       sync.Mutex
	requests []string
	fail     error
}

func (c *counted) Request(method, route string, status int, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, strings.Join([]string{method, route, http.StatusText(status)}, " "))
}

func (c *counted) Write(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "some_metric 1.0\n")
	return errors.Join(err, c.fail)
}

func TestScrape(t *testing.T) {
	t.Parallel()
	fake := &counted{}
	off := newRig(t)
	open := newRig(t, func(d *Deps) { d.Prometheus = fake })
	closed := newRig(t, func(d *Deps) { d.Prometheus, d.PrometheusToken = fake, "prom" })
	broken := newRig(t, func(d *Deps) { d.Prometheus = &counted{fail: errors.New("no disk")} })
	for name, tt := range map[string]struct {
		rig    *rig
		token  string
		status int
		body   string
	}{
		"off":             {off, "", 404, `{"detail":{"msg":"Not found","code":null}}`},
		"for all":         {open, "", 200, "some_metric 1.0\n"},
		"any token":       {open, "x", 200, "some_metric 1.0\n"},
		"without a token": {closed, "", 403, `{"detail":{"msg":"Access denied","code":null}}`},
		"wrong token":     {closed, adminToken, 403, `{"detail":{"msg":"Invalid token","code":null}}`},
		"right token":     {closed, "prom", 200, "some_metric 1.0\n"},
		"broken":          {broken, "", 500, "Internal Server Error"},
	} {
		a := tt.rig.request(http.MethodGet, "/metrics", tt.token, "")
		if a.status != tt.status || a.body != tt.body {
			t.Errorf("%s: %d %s, want %d %s", name, a.status, a.body, tt.status, tt.body)
		}
		if got := a.header.Get("Content-Type"); tt.status == http.StatusOK && got != "text/plain; version=0.0.4; charset=utf-8" {
			t.Errorf("%s: content type %s", name, got)
		}
	}
	open.request(http.MethodPost, "/api/users/get_my_user", "", "")
	open.server.Close() // a request is counted after its answer
	fake.mu.Lock()
	defer fake.mu.Unlock()
	if last := fake.requests[len(fake.requests)-1]; last != "POST /api/users/get_my_user Unauthorized" {
		t.Errorf("counted last: %s of %q", last, fake.requests)
	}
}
