package hosts

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"dstack/protocol/hostapi"
)

// doorShim is a shim whose jobs connect to their server as often as a test says.
type doorShim struct {
	t *testing.T
	// calls are the requests that the jobs make, each on a connection.
	calls   chan string
	answers chan string
	mu      sync.Mutex
	asked   map[string]int
}

func (s *doorShim) handler(mux *http.ServeMux) {
	fail := func(w http.ResponseWriter, status int, code string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"code":%q,"message":"no"}`, code)
	}
	mux.HandleFunc("POST /v1/tasks/{id}/server", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		s.mu.Lock()
		s.asked[id]++
		n := s.asked[id]
		s.mu.Unlock()
		switch {
		case id == "ended":
			fail(w, http.StatusGone, hostapi.CodeGone)
			return
		case id == "flaky" && n < 3:
			fail(w, http.StatusInternalServerError, hostapi.CodeInternal)
			return
		}
		var call string
		select {
		case call = <-s.calls:
		case <-r.Context().Done():
			return
		}
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "GET "+call+" HTTP/1.1\r\nHost: job\r\n\r\n")
		_ = http.NewResponseController(w).Flush()
		resp, err := http.ReadResponse(bufio.NewReader(r.Body), nil) //nolint:bodyclose // the request ends
		if err != nil {
			s.answers <- err.Error()
			return
		}
		body, err := io.ReadAll(resp.Body)
		s.answers <- fmt.Sprint(string(body), err)
	})
}

func (s *doorShim) times(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[id]
}

// listener hands the connections of a pool to a server.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *listener) Close() error   { return nil }
func (l *listener) Addr() net.Addr { return &net.UnixAddr{} }

// TestDoors lets jobs reach the server, again after the connection to their host
// was cut, until they end.
func TestDoors(t *testing.T) {
	shim := newFakeShim()
	door := &doorShim{t: t, calls: make(chan string), answers: make(chan string), asked: map[string]int{}}
	shim.more = door.handler
	pipes := servePipes(t, shim)
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "server at ", r.URL.Path, " ")
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		close(l.closed)
		_ = server.Close()
		<-served
	})
	r := newRecorder()
	p := startPool(t, r, func(p *Pool) {
		withPipes(pipes)(p)
		p.opt.Jobs = func(c net.Conn) { l.conns <- c }
	})
	p.ServeJob("i1", "job") // of a host that nobody knows
	p.Ensure(Target{InstanceID: "i1"})
	p.ServeJob("i1", "job")
	p.ServeJob("i1", "job")
	r.await(t, "the host is up", func() bool { return len(r.ups) == 1 })
	ask := func(path string) {
		t.Helper()
		door.calls <- path
		if got, want := <-door.answers, "server at "+path+" <nil>"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for n := range 3 {
		ask(fmt.Sprint("/", n))
	}
	pipes.cut()
	r.await(t, "the host is up again", func() bool { return len(r.ups) == 2 })
	ask("/again")
	p.ServeJob("i1", "ended")
	p.ServeJob("i1", "flaky")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for door.times("ended") < 1 || door.times("flaky") < 3 {
		if ctx.Err() != nil {
			t.Fatal("the doors were not tried")
		}
		time.Sleep(time.Millisecond)
	}
	p.mu.Lock()
	h := p.hosts["i1"]
	p.mu.Unlock()
	for {
		h.mu.Lock()
		_, open := h.doors["ended"]
		h.mu.Unlock()
		if !open {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("the door of a job that ended is open")
		}
		time.Sleep(time.Millisecond)
	}
	if n := door.times("ended"); n != 1 {
		t.Errorf("a job that ended was asked for %d times", n)
	}
}

// TestDoorIsBounded keeps a job from holding any number of connections.
func TestDoorIsBounded(t *testing.T) {
	shim := newFakeShim()
	var mu sync.Mutex
	open, most := 0, 0
	release := make(chan struct{})
	shim.more = func(mux *http.ServeMux) {
		mux.HandleFunc("POST /v1/tasks/{id}/server", func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			open++
			most = max(most, open)
			mu.Unlock()
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
			}
			mu.Lock()
			open--
			mu.Unlock()
		})
	}
	pipes := servePipes(t, shim)
	r := newRecorder()
	var conns sync.WaitGroup
	t.Cleanup(conns.Wait) // when nothing opens any more
	taken := make(chan struct{}, 10*maxDoor)
	p := startPool(t, r, func(p *Pool) {
		withPipes(pipes)(p)
		p.opt.Jobs = func(c net.Conn) {
			taken <- struct{}{}
			conns.Go(func() {
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			})
		}
	})
	p.Ensure(Target{InstanceID: "i1"})
	p.ServeJob("i1", "job")
	for range maxDoor {
		<-taken
	}
	select {
	case <-taken:
		t.Error("one more was taken")
	default:
	}
	close(release)
	<-taken // there is room again
	mu.Lock()
	defer mu.Unlock()
	if most > maxDoor {
		t.Errorf("%d at a time", most)
	}
}

// TestDoorGivesAll: a job gets all of an answer after which the server closes
// the connection.
func TestDoorGivesAll(t *testing.T) {
	shim := newFakeShim()
	door := &doorShim{t: t, calls: make(chan string), answers: make(chan string), asked: map[string]int{}}
	shim.more = door.handler
	pipes := servePipes(t, shim)
	const size = 200_001
	var conns sync.WaitGroup
	t.Cleanup(conns.Wait)
	r := newRecorder()
	p := startPool(t, r, func(p *Pool) {
		withPipes(pipes)(p)
		p.opt.Jobs = func(c net.Conn) {
			conns.Go(func() {
				_, _ = http.ReadRequest(bufio.NewReader(c))
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
				_ = c.Close()
			})
		}
	})
	p.Ensure(Target{InstanceID: "i1"})
	p.ServeJob("i1", "job")
	for range 50 {
		door.calls <- "/"
		if got := <-door.answers; got != strings.Repeat("x", size)+"<nil>" {
			t.Fatalf("%d bytes of %d: ...%s", len(got), size, got[max(0, len(got)-40):])
		}
	}
}
