package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"
)

// frameSize is the largest frame of /logs_ws in bytes.
const frameSize = 32 << 10

// logs serves /logs_ws: the raw log as binary frames, from the beginning or
// from start_time, until the job has ended and everything was sent.
func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	s.readers.Add(1)
	defer s.readers.Done()
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		s.logger.Debug().Err(err).Msg("websocket handshake failed")
		return
	}
	offset, err := s.start(r.URL.Query().Get("start_time"))
	if err != nil {
		s.closeReader(conn, websocket.StatusUnsupportedData, err.Error())
		return
	}
	// Reads answer pings and notice a client that goes away.
	ctx, cancel := context.WithCancelCause(conn.CloseRead(r.Context()))
	defer cancel(nil)
	var sent atomic.Int64
	var g errgroup.Group
	g.Go(func() error {
		s.watch(ctx, cancel, &sent)
		return nil
	})
	err = s.follow(ctx, conn, offset, &sent)
	cancel(err)
	if waitErr := g.Wait(); err == nil {
		err = waitErr
	}
	if err == nil {
		s.closeReader(conn, websocket.StatusNormalClosure, "")
		return
	}
	s.logger.Debug().Err(err).Msg("log reader went away")
	if err := conn.CloseNow(); err != nil {
		s.logger.Debug().Err(err).Msg("close log reader")
	}
}

func (s *Server) closeReader(conn *websocket.Conn, code websocket.StatusCode, reason string) {
	if err := conn.Close(code, reason); err != nil {
		s.logger.Debug().Err(err).Msg("close log reader")
	}
}

// start returns the offset in the raw log where a reader begins.
func (s *Server) start(startTime string) (int64, error) {
	if startTime == "" {
		return 0, nil
	}
	// The "+" of a zone that was not escaped arrives as a space.
	t, err := time.Parse(time.RFC3339, strings.Replace(startTime, " ", "+", 1))
	if err != nil {
		return 0, errors.New("start_time is not an RFC 3339 time")
	}
	return s.log.RawSince(t)
}

// follow sends the raw log from offset until it is finished and sent.
func (s *Server) follow(ctx context.Context, conn *websocket.Conn, offset int64, sent *atomic.Int64) error {
	buf := make([]byte, frameSize)
	for {
		pos := s.log.Position()
		for offset < pos.Raw {
			n, err := s.log.ReadRawAt(buf[:min(frameSize, pos.Raw-offset)], offset)
			if err != nil && (n == 0 || !errors.Is(err, io.EOF)) {
				return fmt.Errorf("read raw log: %w", err)
			}
			if err := conn.Write(ctx, websocket.MessageBinary, buf[:n]); err != nil {
				return fmt.Errorf("send raw log: %w", err)
			}
			offset += int64(n)
			sent.Add(int64(n))
		}
		if pos.Finished {
			return nil
		}
		select {
		case <-pos.Changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// errStalled is why a reader is dropped after the end of the job.
var errStalled = errors.New("log reader stands still")

// watch cancels a reader that stands still once the job has ended. It
// returns when ctx ends.
func (s *Server) watch(ctx context.Context, cancel context.CancelCauseFunc, sent *atomic.Int64) {
	select {
	case <-s.ending:
	case <-ctx.Done():
		return
	}
	ticker := time.NewTicker(stallTimeout)
	defer ticker.Stop()
	for last := sent.Load(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := sent.Load()
		if now == last {
			cancel(errStalled)
			return
		}
		last = now
	}
}
