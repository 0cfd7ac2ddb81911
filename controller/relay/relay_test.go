package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// carried is a relay between a WebSocket, which the test has, and a job.
type carried struct {
	ws  *websocket.Conn
	job net.Conn
	// end ends the relay with a cause; done has why it ended.
	end  context.CancelCauseFunc
	done chan error
}

func carry(t *testing.T, keepAlive time.Duration, options *websocket.DialOptions) *carried {
	t.Helper()
	near, far := net.Pipe()
	ctx, end := context.WithCancelCause(context.Background())
	c := &carried{job: far, end: end, done: make(chan error, 1)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		c.done <- Carry(ctx, ws, near, keepAlive)
	}))
	var err error
	c.ws, _, err = websocket.Dial(t.Context(), server.URL, options) //nolint:bodyclose // the body belongs to the connection
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end(nil)
		_ = c.ws.CloseNow()
		_ = far.Close()
		server.Close()
	})
	return c
}

func (c *carried) why(t *testing.T) error {
	t.Helper()
	select {
	case err := <-c.done:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("it goes on")
		return nil
	}
}

// What one side says the other hears, and the end of the job is told as such.
func TestCarry(t *testing.T) {
	c := carry(t, time.Hour, nil)
	user := websocket.NetConn(t.Context(), c.ws, websocket.MessageBinary)
	go func() { _, _ = io.WriteString(user, "question") }()
	got := make([]byte, 8)
	if _, err := io.ReadFull(c.job, got); err != nil || string(got) != "question" {
		t.Fatalf("the job heard %q, %v", got, err)
	}
	go func() {
		_, _ = io.WriteString(c.job, "answer")
		_ = c.job.Close()
	}()
	if all, err := io.ReadAll(user); err != nil || string(all) != "answer" {
		t.Errorf("the user heard %q, %v", all, err)
	}
	if err := c.why(t); !errors.Is(err, io.EOF) {
		t.Errorf("it ended with %v", err)
	}
}

// The user's side is told why it ends.
func TestCause(t *testing.T) {
	for _, tt := range []struct {
		cause  error
		code   websocket.StatusCode
		reason string
	}{
		{ErrWithdrawn, websocket.StatusPolicyViolation, "the access to the job was withdrawn"},
		{ErrJobEnded, websocket.StatusNormalClosure, "the job has ended"},
		{ErrStopping, websocket.StatusGoingAway, "the server stops"},
		{errors.New("secret"), websocket.StatusBadGateway, "the connection to the job was lost"},
	} {
		c := carry(t, time.Hour, nil)
		c.end(tt.cause)
		_, _, err := c.ws.Read(t.Context())
		end, ok := errors.AsType[websocket.CloseError](err)
		if !ok || end.Code != tt.code || end.Reason != tt.reason {
			t.Errorf("%v: %v", tt.cause, err)
		}
		if err := c.why(t); !errors.Is(err, tt.cause) {
			t.Errorf("%v: it ended with %v", tt.cause, err)
		}
	}
}

// A user's side that goes away ends the connection to the job.
func TestUserGone(t *testing.T) {
	c := carry(t, time.Hour, nil)
	if err := c.ws.CloseNow(); err != nil {
		t.Fatal(err)
	}
	if err := c.why(t); err == nil || !strings.Contains(err.Error(), "read from the user") {
		t.Errorf("it ended with %v", err)
	}
	if _, err := c.job.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the job sees %v", err)
	}
}

func TestTextIsRefused(t *testing.T) {
	c := carry(t, time.Hour, nil)
	if err := c.ws.Write(t.Context(), websocket.MessageText, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
		t.Errorf("the user sees %v", err)
	}
	if err := c.why(t); !errors.Is(err, errText) {
		t.Errorf("it ended with %v", err)
	}
}

// Who reads nothing makes the job wait, and is given up at last.
func TestStalledUser(t *testing.T) {
	c := carry(t, 100*time.Millisecond, nil)
	var sent atomic.Int64
	piece := make([]byte, frameSize)
	go func() {
		for {
			n, err := c.job.Write(piece)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	if err := c.why(t); !errors.Is(err, ErrSilent) {
		t.Errorf("it ended with %v", err)
	}
	// What the sockets of this machine hold, and no more.
	if n := sent.Load(); n > 64<<20 {
		t.Errorf("took %d bytes that nobody reads", n)
	}
}

// A quiet connection is asked for signs of life, and goes on.
func TestQuietUser(t *testing.T) {
	asked := make(chan struct{}, 100)
	// A busy machine may answer late.
	c := carry(t, 500*time.Millisecond, &websocket.DialOptions{OnPingReceived: func(context.Context, []byte) bool {
		asked <- struct{}{}
		return true
	}})
	user := websocket.NetConn(t.Context(), c.ws, websocket.MessageBinary)
	read := make(chan error, 1)
	got := make([]byte, 6)
	go func() {
		_, err := io.ReadFull(user, got)
		read <- err
	}()
	for range 2 {
		select {
		case <-asked:
		case err := <-c.done:
			t.Fatalf("it ended with %v", err)
		}
	}
	if _, err := io.WriteString(c.job, "answer"); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil || string(got) != "answer" {
		t.Errorf("heard %q, %v", got, err)
	}
}

// Each user has a number of places; nobody takes another's.
func TestEnter(t *testing.T) {
	r := New(1)
	leave, err := r.Enter("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Enter("a"); !errors.Is(err, ErrTooMany) {
		t.Errorf("second of a: %v", err)
	}
	other, err := r.Enter("b")
	if err != nil {
		t.Fatal(err)
	}
	leave()
	again, err := r.Enter("a")
	if err != nil {
		t.Errorf("after leaving: %v", err)
	}
	again()
	other()
	r.Close()
	if _, err := r.Enter("a"); !errors.Is(err, ErrStopping) {
		t.Errorf("after the end: %v", err)
	}
}
