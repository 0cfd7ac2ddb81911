package objects

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// TestGCSDeadConnection: a connection that is dead without a word does not
// swallow one request after the other.
func TestGCSDeadConnection(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("the request came by %s", r.Proto)
		}
		_, _ = io.WriteString(w, "lease")
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	transport, err := gcsTransport(200 * time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	var dead atomic.Bool // the connection that was made first
	var dialled atomic.Int64
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil && dialled.Add(1) == 1 {
			c = &mute{c, &dead}
		}
		return c, err
	}
	b := &GCS{http: &http.Client{Transport: transport}, base: server.URL, bucket: "bucket"}
	ask := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		response, err := b.call(ctx, http.MethodGet, "/x", nil, nil, nil)
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	dead.Store(true)
	if err := ask(); err == nil {
		t.Fatal("this test shows nothing")
	}
	for end := time.Now().Add(20 * time.Second); ask() != nil; {
		if time.Now().After(end) {
			t.Fatal("the dead connection is still used")
		}
	}
}

// mute is a connection that swallows what it gets.
type mute struct {
	net.Conn

	dead *atomic.Bool
}

func (m *mute) Write(b []byte) (int, error) {
	if m.dead.Load() {
		return len(b), nil
	}
	return m.Conn.Write(b)
}
