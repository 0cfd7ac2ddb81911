package hosts

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"dstack/protocol/hostapi"
)

// fakeShim is the other side of hostapi, in memory.
type fakeShim struct {
	more func(*http.ServeMux) // further routes

	mu      sync.Mutex
	info    hostapi.Info
	nextSeq uint64
	journal []hostapi.Event // unacknowledged task events
	tasks   map[string]hostapi.Task
	gone    map[string]bool
	logs    map[string][]byte
	changed chan struct{} // closed and replaced at each change
	firsts  []hostapi.Ack // the first line of each stream
	acks    []hostapi.Ack

	// chunk is the size of log chunks; 0 means 1000.
	chunk int
	// mangle may drop (nil), change or repeat what is sent.
	mangle func(hostapi.Event) []hostapi.Event
	// cutAfter, if not 0, ends the connection after that many lines, once for each element.
	cutAfter []int
	// cut ends the connection.
	cut func()
}

func newFakeShim() *fakeShim {
	return &fakeShim{
		info: hostapi.Info{Version: "test", HostID: "host-1", Runtime: hostapi.Process}, nextSeq: 1,
		tasks: map[string]hostapi.Task{}, gone: map[string]bool{}, logs: map[string][]byte{},
		changed: make(chan struct{}), chunk: 1000,
	}
}

func (s *fakeShim) update(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// emit changes a task.
func (s *fakeShim) emit(task hostapi.Task) {
	s.update(func() {
		s.tasks[task.ID] = task
		s.journal = append(s.journal, hostapi.Event{Seq: s.nextSeq, Task: &task})
		s.nextSeq++
	})
}

func (s *fakeShim) write(task, text string) {
	s.update(func() { s.logs[task] = append(s.logs[task], text...) })
}

// finish ends a task with the log it has, and extra bytes that never come.
func (s *fakeShim) finish(id string, extra int64) {
	s.mu.Lock()
	size := int64(len(s.logs[id])) + extra
	s.mu.Unlock()
	zero := 0
	s.emit(hostapi.Task{ID: id, State: hostapi.TaskTerminated, Reason: "done_by_runner", ExitStatus: &zero, PlainSize: &size})
}

func (s *fakeShim) answer(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return // the other side is gone
	}
}

func (s *fakeShim) fail(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	s.answer(w, hostapi.Error{Code: code, Message: code})
}

func (s *fakeShim) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/info", func(w http.ResponseWriter, _ *http.Request) { s.answer(w, s.info) })
	mux.HandleFunc("GET /v1/tasks", func(w http.ResponseWriter, _ *http.Request) { s.answer(w, s.list()) })
	mux.HandleFunc("PUT /v1/tasks/{id}", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		s.mu.Lock()
		task, known := s.tasks[id]
		gone := s.gone[id]
		s.mu.Unlock()
		switch {
		case gone:
			s.fail(w, http.StatusGone, hostapi.CodeGone)
			return
		case !known:
			task = hostapi.Task{ID: id, State: hostapi.TaskPreparing}
			s.emit(task)
		}
		s.answer(w, task)
	})
	mux.HandleFunc("POST /v1/tasks/{id}/{verb}", func(w http.ResponseWriter, r *http.Request) {
		s.update(func() { s.gone[r.PathValue("id")] = true })
		w.WriteHeader(http.StatusOK)
	})
	mux.HandleFunc("POST /v1/stream", s.stream)
	if s.more != nil {
		s.more(mux)
	}
	return mux
}

func (s *fakeShim) list() []hostapi.Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []hostapi.Task{}
	for _, t := range s.tasks {
		list = append(list, t)
	}
	return list
}

func (s *fakeShim) stream(w http.ResponseWriter, r *http.Request) {
	in := json.NewDecoder(r.Body)
	var first hostapi.Ack
	if err := in.Decode(&first); err != nil {
		return
	}
	sent := map[string]int64{}
	resend := make(chan map[string]int64, 100)
	s.update(func() {
		s.firsts = append(s.firsts, first)
		for id, at := range first.Logs {
			sent[id] = at
		}
		s.forget(first.Seq)
	})
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for {
			var ack hostapi.Ack
			if err := in.Decode(&ack); err != nil {
				return
			}
			s.update(func() {
				s.acks = append(s.acks, ack)
				s.forget(ack.Seq)
			})
			if ack.Resend != nil {
				resend <- ack.Resend
				s.update(func() {})
			}
		}
	})
	s.send(w, r, first, sent, resend)
}

func (s *fakeShim) forget(seq uint64) {
	for len(s.journal) > 0 && s.journal[0].Seq <= seq {
		s.journal = s.journal[1:]
	}
}

var errCut = errors.New("cut")

func (s *fakeShim) send(w http.ResponseWriter, r *http.Request, first hostapi.Ack, sent map[string]int64, resend chan map[string]int64) {
	flush := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	s.mu.Lock()
	limit := -1
	if len(s.cutAfter) > 0 {
		limit, s.cutAfter = s.cutAfter[0], s.cutAfter[1:]
	}
	hello := hostapi.Event{Hello: &hostapi.Hello{Info: s.info, NextSeq: s.nextSeq}}
	s.mu.Unlock()
	hello.Hello.Tasks = s.list()
	emit := func(e hostapi.Event) error {
		list := []hostapi.Event{e}
		if s.mangle != nil && e.Hello == nil {
			list = s.mangle(e)
		}
		for _, e := range list {
			if limit == 0 {
				// Half a line, then the end.
				_, _ = w.Write([]byte(`{"log":{"task_id":"a","off`))
				_ = flush.Flush()
				return errCut
			}
			limit--
			if err := enc.Encode(e); err != nil {
				return err
			}
		}
		return flush.Flush()
	}
	seq := first.Seq
	if emit(hello) != nil {
		s.cut()
		return
	}
	for {
		s.mu.Lock()
		changed := s.changed
		var out []hostapi.Event
		select {
		case again := <-resend:
			for id, at := range again {
				sent[id] = at
			}
		default:
		}
		for id, text := range s.logs {
			for sent[id] < int64(len(text)) {
				end := min(sent[id]+int64(s.chunk), int64(len(text)))
				out = append(out, hostapi.Event{Log: &hostapi.LogChunk{TaskID: id, Offset: sent[id], At: time.Unix(1, 0), Data: text[sent[id]:end]}})
				sent[id] = end
			}
		}
		// Final states go first here: the receiver has to wait for the log.
		var events []hostapi.Event
		for _, e := range s.journal {
			if e.Seq > seq {
				events = append(events, e)
				seq = e.Seq
			}
		}
		s.mu.Unlock()
		for _, e := range append(events, out...) {
			if emit(e) != nil {
				s.cut()
				return
			}
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// pipes serves a shim over connections in memory.
type pipes struct {
	t      *testing.T
	server *http.Server
	conns  chan net.Conn
	closed chan struct{}
	wg     sync.WaitGroup
	mu     sync.Mutex
	last   net.Conn
}

func servePipes(t *testing.T, s *fakeShim) *pipes {
	t.Helper()
	p := &pipes{t: t, server: h2cServer(s.handler()), conns: make(chan net.Conn), closed: make(chan struct{})}
	s.cut = p.cut
	p.wg.Go(func() { _ = p.server.Serve(p) })
	t.Cleanup(func() {
		_ = p.server.Close()
		p.wg.Wait()
	})
	return p
}

func h2cServer(h http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: h, Protocols: protocols, ReadHeaderTimeout: time.Minute}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// dial makes a new connection.
func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.mu.Lock()
	p.last = ours
	p.mu.Unlock()
	p.conns <- theirs
	return ours
}

// cut ends the present connection.
func (p *pipes) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.last.Close()
}
