package shim

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"dstack/protocol/hostapi"
	"dstack/shim/agentlink"
)

// serverPoll is how often an agent is tried that does not answer yet.
const serverPoll = 100 * time.Millisecond

// carryServer gives the controller the next connection that a job makes to its
// server's socket. Only the controller can begin that, and only for a job that
// it gave access to.
func (m *Manager) carryServer(w http.ResponseWriter, r *http.Request) {
	conn, err := m.serverConn(r.Context(), r.PathValue("id"))
	if err != nil {
		m.answer(func(*http.Request) (any, error) { return nil, err })(w, r)
		return
	}
	control := http.NewResponseController(w)
	defer context.AfterFunc(r.Context(), func() { _ = conn.Close() })()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(http.StatusOK)
	if err := control.Flush(); err != nil {
		_ = conn.Close() // the controller is gone
		return
	}
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(conn, r.Body) // how it ended is the client's to tell
		_ = conn.Close()
	})
	_, err = io.Copy(&flushing{w, control}, conn)
	// The controller may neither send nor read any more.
	err = errors.Join(err, conn.Close(), control.SetReadDeadline(time.Unix(1, 0)))
	up.Wait()
	m.cfg.Log.Debug().AnErr("cause", err).Str("task", r.PathValue("id")).Msg("connection to server ended")
}

// flushing sends each piece at once.
type flushing struct {
	w       io.Writer
	control *http.ResponseController
}

func (f *flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = f.control.Flush()
	}
	return n, err //nolint:wrapcheck // what it is is known to who copies
}

// serverConn waits for a connection of a task's job.
func (m *Manager) serverConn(ctx context.Context, id string) (net.Conn, error) {
	for {
		t := m.task(id)
		if t == nil {
			return nil, fault(hostapi.CodeNotFound, "there is no task %s", id)
		}
		rec := t.record()
		switch {
		case rec.ended():
			return nil, fault(hostapi.CodeGone, "task %s has ended", id)
		case !rec.Spec.Job.ServerAccess:
			return nil, fault(hostapi.CodeNotFound, "task %s has no access to the server", id)
		}
		conn, err := awaitJob(ctx, rec.RunDir)
		if err == nil {
			return conn, nil
		}
		if !sleep(ctx, serverPoll) {
			return nil, context.Cause(ctx)
		}
	}
}

func awaitJob(ctx context.Context, dir string) (net.Conn, error) {
	folder, err := agentlink.OpenFolder(dir)
	if err != nil {
		return nil, err
	}
	conn, err := folder.Server(ctx)
	if closeErr := folder.Close(); closeErr != nil && err == nil {
		return nil, errors.Join(closeErr, conn.Close())
	}
	return conn, err
}
