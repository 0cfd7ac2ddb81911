package controller

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	answers := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/healthcheck" {
				status = http.StatusNotFound
			}
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	tests := map[string]struct {
		handler http.HandlerFunc
		// out and fault have <url> for the server's address.
		out, fault string
	}{
		"no replica": {handler: answers(200, `{"status":"running"}`), out: "The dstack server at <url> is running\n"},
		"the replica is complete": {
			handler: answers(200, `{"status":"running","replication":{"lag_seconds":0.02,"failing":false}}`),
			out:     "The dstack server at <url> is running; its replica is complete\n",
		},
		"the replica is behind": {
			handler: answers(200, `{"status":"running","replication":{"lag_seconds":0.26,"failing":false}}`),
			out:     "The dstack server at <url> is running; its replica is 300ms behind\n",
		},
		"the replica is out of reach": {
			handler: answers(200, `{"status":"running","replication":{"lag_seconds":95,"failing":true}}`),
			out:     "The dstack server at <url> is running, but its replica gets no changes: it is 1m35s behind\n",
		},
		"the database fails": {
			handler: answers(500, `{"detail":[{"msg":"check database","code":"error"}]}`),
			fault:   "the server at <url> can't work: it answers 500 Internal Server Error; its log says why",
		},
		"another program": {
			handler: answers(200, "<html>"),
			fault:   "what answers at <url> is no dstack server: choose another port with --port or DSTACK_SERVER_PORT",
		},
		"another program without such a page": {
			handler: answers(404, "not here"),
			fault:   "what answers at <url> is no dstack server: choose another port with --port or DSTACK_SERVER_PORT",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(tt.handler)
			defer server.Close()
			out := &output{}
			err := Health(t.Context(), Config{Settings: settingsOf(t, server.URL), Out: out})
			var fault string
			if err != nil {
				fault = err.Error()
			}
			for what, pair := range map[string][2]string{"printed": {out.String(), tt.out}, "fault": {fault, tt.fault}} {
				if want := strings.ReplaceAll(pair[1], "<url>", server.URL); pair[0] != want {
					t.Errorf("%s\n%s\nwant\n%s", what, pair[0], want)
				}
			}
		})
	}
}

func TestHealthWithoutServer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	settings := settingsOf(t, server.URL)
	server.Close()
	err := Health(t.Context(), Config{Settings: settings, Out: &output{}})
	if err == nil || !strings.HasPrefix(err.Error(), "no server answers at "+server.URL+": ") || !strings.Contains(err.Error(), "connection refused; start it") {
		t.Errorf("got %v", err)
	}
}

// TestHealthOfServer asks a real one, which listens on all addresses.
func TestHealthOfServer(t *testing.T) {
	t.Parallel()
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Settings.Host = "0.0.0.0"
	stop := start(t, cfg)
	out := &output{}
	asked := cfg
	asked.Out = out
	if err := Health(t.Context(), asked); err != nil || out.String() != "The dstack server at "+cfg.Settings.ownURL()+" is running\n" {
		t.Errorf("%q, %v", out, err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// TestHealthHangs asks a port that takes connections and says nothing.
func TestHealthHangs(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = Health(ctx, Config{Settings: settingsOf(t, "http://"+l.Addr().String()), Out: &output{}})
	if err == nil || !strings.HasSuffix(err.Error(), "does not answer within 5s: it is starting, or hangs") {
		t.Errorf("got %v", err)
	}
}

func TestOwnURL(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"": "http://127.0.0.1:3000", "0.0.0.0": "http://127.0.0.1:3000", "::": "http://[::1]:3000",
		"10.0.0.5": "http://10.0.0.5:3000", "localhost": "http://localhost:3000", "::1": "http://[::1]:3000",
	} {
		if got := (&Settings{Host: host, Port: 3000}).ownURL(); got != want {
			t.Errorf("host %q: %s, want %s", host, got, want)
		}
	}
}

func settingsOf(t *testing.T, address string) Settings {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return Settings{Host: u.Hostname(), Port: port}
}
