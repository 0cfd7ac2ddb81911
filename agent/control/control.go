// Package control serves the agent's side of [jobapi] on its unix socket.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"dstack/agent/ptylog"
	"dstack/protocol/jobapi"
)

const (
	// sizeInterval is how often at most a stream tells a new size of the log.
	sizeInterval = 50 * time.Millisecond
	// writeTimeout bounds each write to a stream of events.
	writeTimeout = 10 * time.Second
	// stallTimeout is how long a reader of the log may stand still once the
	// job has ended; lingerTimeout how long it may take at all.
	stallTimeout  = 5 * time.Second
	lingerTimeout = 5 * time.Minute
	// maxStopBody is the size limit of a stop request in bytes.
	maxStopBody = 64 << 10
)

// States tells the state of the job.
type States interface {
	// Get returns the state and a channel that is closed when it is another.
	Get() (jobapi.Status, <-chan struct{})
}

// Log is the log of the job; see [ptylog.Log].
type Log interface {
	Position() ptylog.Position
	ReadRawAt(p []byte, offset int64) (int, error)
	RawSince(t time.Time) (int64, error)
}

// Meter tells what the job uses.
type Meter interface {
	// Get returns the last measurement, nil if there is none, and a channel
	// that is closed when there is another.
	Get() (*jobapi.Usage, <-chan struct{})
}

// Server serves one job.
type Server struct {
	states States
	log    Log
	meter  Meter
	stop   func(jobapi.StopRequest)
	logger zerolog.Logger
	mux    *http.ServeMux

	// readers are the hijacked connections of /logs_ws.
	readers sync.WaitGroup
	// ending is closed when the job has ended and nobody new is served.
	ending chan struct{}
	// visits are connections that are for the log only.
	visits *visits
}

// New returns a server that tells states, log and usage, and hands requests
// to stop to stop, which must not block.
func New(states States, log Log, meter Meter, stop func(jobapi.StopRequest), logger zerolog.Logger) *Server {
	return &Server{states: states, log: log, meter: meter, stop: stop, logger: logger, ending: make(chan struct{}), visits: newVisits(), mux: http.NewServeMux()}
}

// Handle serves a pattern with h, too. It is called before Run.
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// Run serves on l until ctx ends, which is when the job has ended. Then who
// reads the log gets the rest of it, as long as that makes progress, and who
// may still come for it within expected is waited for, until linger ends at
// the latest.
func (s *Server) Run(ctx, linger context.Context, l net.Listener, expected func() time.Duration) error {
	base, cancel := context.WithCancel(linger)
	defer cancel()
	logs := http.NewServeMux()
	logs.HandleFunc("GET /logs_ws", s.logs)
	s.mux.Handle("/", logs)
	s.mux.HandleFunc("GET /v1/events", s.events)
	s.mux.HandleFunc("POST /v1/stop", s.stopJob)
	serve := func(handler http.Handler, l net.Listener) (*http.Server, func() error) {
		server := &http.Server{
			Handler:           handler,
			ReadHeaderTimeout: writeTimeout,
			BaseContext:       func(net.Listener) context.Context { return base },
		}
		return server, func() error {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve control socket: %w", err)
			}
			return nil
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	main, run := serve(s.mux, l)
	g.Go(run)
	visited, run := serve(logs, s.visits)
	g.Go(run)
	g.Go(func() error {
		<-ctx.Done()
		close(s.ending)
		last, cancelLast := context.WithTimeout(linger, lingerTimeout)
		defer cancelLast()
		defer context.AfterFunc(last, cancel)()
		for d := expected(); d > 0 && pause(last, nil, d); d = expected() {
		}
		err := errors.Join(shutdown(last, main), shutdown(last, visited))
		s.readers.Wait()
		if err != nil {
			return fmt.Errorf("end control socket: %w", err)
		}
		return nil
	})
	return g.Wait()
}

// shutdown ends a server when its requests are answered, or else with ctx.
func shutdown(ctx context.Context, server *http.Server) error {
	err := server.Shutdown(ctx)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return server.Close()
	}
	return err
}

// events streams the state, the log's size and the usage until the job has ended.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/jsonl")
	out := http.NewResponseController(w)
	encoder := json.NewEncoder(w)
	var told jobapi.Status
	var plain int64
	var measured *jobapi.Usage
	for {
		// In this order: the log is complete before the state is final.
		status, statusChanged := s.states.Get()
		pos := s.log.Position()
		usage, usageChanged := s.meter.Get()
		event := jobapi.Event{PlainSize: pos.Plain}
		if status != told {
			event.Status = &status
		}
		if usage != measured {
			event.Usage = usage
		}
		if event.Status != nil || event.Usage != nil || pos.Plain != plain {
			if err := errors.Join(
				out.SetWriteDeadline(time.Now().Add(writeTimeout)),
				encoder.Encode(event), out.Flush(),
			); err != nil {
				s.logger.Debug().Err(err).Msg("event stream broke")
				return
			}
			told, plain, measured = status, pos.Plain, usage
		}
		if status.State.Ended() {
			return
		}
		select {
		case <-statusChanged:
		case <-usageChanged:
		case <-r.Context().Done():
			return
		case <-pos.Changed:
			if !pause(r.Context(), statusChanged, sizeInterval) {
				return
			}
		}
	}
}

// pause waits for d or until early is closed; it returns false if ctx ended.
func pause(ctx context.Context, early <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-early:
	case <-ctx.Done():
		return false
	}
	return true
}

func (s *Server) stopJob(w http.ResponseWriter, r *http.Request) {
	var request jobapi.StopRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxStopBody)).Decode(&request); err != nil {
		http.Error(w, "decode stop request: "+err.Error(), http.StatusBadRequest)
		return
	}
	if request.Grace < 0 {
		http.Error(w, "decode stop request: grace is negative", http.StatusBadRequest)
		return
	}
	s.stop(request)
	w.WriteHeader(http.StatusAccepted)
}
