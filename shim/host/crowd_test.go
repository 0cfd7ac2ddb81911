package host

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// talker sends what one stream may hold, says so, and goes on when ctx ends.
type talker struct {
	ctx  context.Context
	left int
	full chan<- struct{}
}

func (b *talker) Read(p []byte) (int, error) {
	if b.left == 0 {
		b.full <- struct{}{}
		<-b.ctx.Done()
		return 0, io.EOF
	}
	n := min(len(p), b.left)
	b.left -= n
	return n, nil
}

// TestCrowd: connections of jobs to their server that nobody reads, and many of
// them, leave room for the controller's calls.
func TestCrowd(t *testing.T) {
	home, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l, err := home.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var g errgroup.Group
	g.Go(func() error {
		return Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/stuck" {
				<-r.Context().Done() // a job that reads nothing
				return
			}
			n, err := io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprint(w, n, " ", err)
		}))
	})
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, home.Path) }}
	conn, err := tr.NewClientConn(ctx, "http", "shim:80")
	if err != nil {
		t.Fatal(err)
	}
	post := func(path string, body io.Reader) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://shim"+path, body)
		if err != nil {
			return "", err
		}
		resp, err := conn.RoundTrip(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		return string(answer), err
	}
	if _, err := post("/call", http.NoBody); err != nil { // both sides know each other's settings now
		t.Fatal(err)
	}
	const crowd = 300
	full := make(chan struct{}, crowd)
	var stuck sync.WaitGroup
	for range crowd {
		stuck.Go(func() { _, _ = post("/stuck", &talker{ctx, streamBuffer, full}) })
	}
	for n := range crowd {
		select {
		case <-full:
		case <-ctx.Done():
			t.Fatalf("only %d can talk", n)
		}
	}
	if got, err := post("/call", bytes.NewReader(make([]byte, 3<<20))); got != "3145728 <nil>" {
		t.Errorf("a call among them: %q, %v", got, err)
	}
	cancel()
	stuck.Wait()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	_ = conn.Close() // the other side is gone
	if err := home.Close(); err != nil {
		t.Error(err)
	}
}
