package shim

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"dstack/protocol/hostapi"
)

// maxBody bounds the body of a call in bytes.
const maxBody = 4 << 20

// removeLimit is how long a call to remove a task is held.
const removeLimit = 30 * time.Second

// Handler serves [hostapi]. shutdown is called once a call to shut down was
// answered.
func (m *Manager) Handler(shutdown func(hostapi.Shutdown)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/info", m.answer(func(r *http.Request) (any, error) {
		info := m.Info()
		info.Claim = m.claim.against(r.Header.Get(hostapi.ServerHeader), m.busy(), time.Now())
		return info, nil
	}))
	mux.HandleFunc("GET /v1/tasks", m.answer(func(*http.Request) (any, error) { return m.List(), nil }))
	mux.HandleFunc("PUT /v1/tasks/{id}", m.answer(func(r *http.Request) (any, error) {
		var spec hostapi.TaskSpec
		if err := decode(r, &spec); err != nil {
			return nil, err
		}
		return m.Put(r.PathValue("id"), spec)
	}))
	mux.HandleFunc("POST /v1/tasks/{id}/stop", m.answer(func(r *http.Request) (any, error) {
		var stop hostapi.StopTask
		if err := decode(r, &stop); err != nil {
			return nil, err
		}
		return m.Stop(r.PathValue("id"), stop)
	}))
	mux.HandleFunc("POST /v1/tasks/{id}/remove", m.answer(func(r *http.Request) (any, error) {
		ctx, cancel := context.WithTimeout(r.Context(), removeLimit)
		defer cancel()
		return struct{}{}, m.Remove(ctx, r.PathValue("id"))
	}))
	mux.HandleFunc("POST /v1/tasks/{id}/server", m.carryServer)
	mux.HandleFunc("HEAD /v1/blobs/{hash}", m.hasBlob)
	mux.HandleFunc("PUT /v1/blobs/{hash}", m.answer(m.putBlob))
	m.handleHostKey(mux)
	mux.HandleFunc("POST /v1/stream", m.serveStream)
	mux.HandleFunc("POST /v1/shutdown", func(w http.ResponseWriter, r *http.Request) {
		var order hostapi.Shutdown
		m.answer(func(r *http.Request) (any, error) {
			if err := decode(r, &order); err != nil {
				return nil, err
			}
			if order.Uninstall {
				if err := m.RemoveAll(r.Context()); err != nil {
					order = hostapi.Shutdown{}
					return nil, err
				}
			}
			defer shutdown(order)
			return struct{}{}, nil
		})(w, r)
	})
	return m.guard(mux)
}

// guard keeps servers away to which the host does not belong.
func (m *Manager) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		why := m.claim.against(r.Header.Get(hostapi.ServerHeader), m.busy(), time.Now())
		if why == "" || r.URL.Path == "/v1/info" {
			next.ServeHTTP(w, r)
			return
		}
		m.answer(func(*http.Request) (any, error) { return nil, fault(hostapi.CodeClaimed, "%s", why) })(w, r)
	})
}

func decode(r *http.Request, into any) error {
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody)).Decode(into); err != nil {
		return fault(hostapi.CodeBadRequest, "the body of the call is not as expected: %v", err)
	}
	return nil
}

var statusOf = map[string]int{
	hostapi.CodeBadRequest: http.StatusBadRequest,
	hostapi.CodeNotFound:   http.StatusNotFound,
	hostapi.CodeGone:       http.StatusGone,
	hostapi.CodeClaimed:    http.StatusConflict,
	hostapi.CodeBusy:       http.StatusServiceUnavailable,
}

// answer makes a handler of a function from a request to an answer or error.
func (m *Manager) answer(fn func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := fn(r)
		status := http.StatusOK
		if err != nil {
			var e *hostapi.Error
			if !errors.As(err, &e) {
				e = &hostapi.Error{Code: hostapi.CodeInternal, Message: err.Error()}
			}
			var known bool
			if status, known = statusOf[e.Code]; !known {
				status = http.StatusInternalServerError
				m.cfg.Log.Error().Err(err).Str("call", r.Method+" "+r.URL.Path).Msg("call failed")
			}
			body = e
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(body); err != nil {
			m.cfg.Log.Debug().Err(err).Msg("answer not sent")
		}
	}
}

func (m *Manager) serveStream(w http.ResponseWriter, r *http.Request) {
	if err := m.claim.enter(r.Header.Get(hostapi.ServerHeader), m.busy(), time.Now()); err != nil {
		m.answer(func(*http.Request) (any, error) { return nil, err })(w, r)
		return
	}
	defer func() { m.claim.leave(time.Now()) }()
	control := http.NewResponseController(w)
	if r.ProtoMajor == 1 {
		if err := control.EnableFullDuplex(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("Content-Type", "application/jsonl")
	w.WriteHeader(http.StatusOK)
	past := time.Unix(1, 0)
	err := m.Serve(r.Context(), r.Body, w, control.Flush, func() {
		// The peer may neither read nor write any more.
		if err := errors.Join(control.SetReadDeadline(past), control.SetWriteDeadline(past)); err != nil {
			m.cfg.Log.Debug().Err(err).Msg("stream not cut")
		}
	})
	m.cfg.Log.Info().AnErr("cause", err).Msg("stream of controller ended")
}
