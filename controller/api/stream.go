package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"dstack/controller/auth"
	"dstack/controller/logs"
	"dstack/controller/store"
	"dstack/protocol/api"
)

const (
	// keepAlive is how often a quiet stream sends an empty line.
	keepAlive = 15 * time.Second
	// calm is how long a stream waits after a line, so that a burst of
	// changes becomes one.
	calm = 20 * time.Millisecond
	// pullTick is how often the progress of a pull is looked at: it is in
	// memory only, so no commit tells of it.
	pullTick = 500 * time.Millisecond
	// lineLimit is how long a reader may take to accept a line.
	lineLimit = 30 * time.Second
	// chunkSize is how many bytes of a log a line has at most.
	chunkSize = 64 << 10
)

// Changes tells streams that something was committed. The store calls Notify
// after each COMMIT.
type Changes struct {
	mu   sync.Mutex
	next chan struct{}
}

// NewChanges makes a Changes that nobody waits for yet.
func NewChanges() *Changes { return &Changes{next: make(chan struct{})} }

// Notify wakes everybody who waits.
func (c *Changes) Notify() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.next)
	c.next = make(chan struct{})
}

// wait returns a channel that is closed at the next change. Taken before
// rows are read, it misses none.
func (c *Changes) wait() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next
}

// stream writes JSON lines to one reader.
type stream struct {
	a    *API
	g    *gin.Context
	ctl  *http.ResponseController
	done <-chan struct{}
}

func (a *API) openStream(g *gin.Context) *stream {
	g.Header("Content-Type", "application/x-ndjson")
	g.Header("Cache-Control", "no-store")
	g.Header("X-Accel-Buffering", "no")
	g.Status(http.StatusOK)
	return &stream{a: a, g: g, ctl: http.NewResponseController(g.Writer), done: g.Request.Context().Done()}
}

// close lifts the deadline: the connection may serve another request.
func (s *stream) close() { _ = s.ctl.SetWriteDeadline(time.Time{}) }

func (s *stream) line(b []byte) error {
	// A writer that knows no deadlines is one in a test.
	_ = s.ctl.SetWriteDeadline(time.Now().Add(lineLimit))
	if _, err := s.g.Writer.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("write line: %w", err)
	}
	s.g.Writer.Flush()
	return nil
}

func (s *stream) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode line: %w", err)
	}
	return s.line(b)
}

// pause waits for one of the channels or the tick; false means that the
// stream is over. It sends the empty line when nothing else happens.
func (s *stream) pause(tick time.Duration, wakes ...<-chan struct{}) (bool, error) {
	if tick == 0 {
		tick = keepAlive
	}
	timer := time.NewTimer(tick)
	defer timer.Stop()
	first, second := wakes[0], (<-chan struct{})(nil)
	if len(wakes) > 1 {
		second = wakes[1]
	}
	select {
	case <-s.done:
		return false, nil
	case <-s.a.deps.Stopping:
		return false, nil
	case <-first:
	case <-second:
	case <-timer.C:
		if tick == keepAlive {
			return true, s.line(nil)
		}
	}
	return true, nil
}

// admitted fails once the caller may not read any more: a token or a member may
// be gone long before a run ends.
func (s *stream) admitted() error {
	level, _ := auth.LevelOf(s.g.FullPath())
	_, err := s.a.auth.Check(s.g.Request.Context(), auth.Request{
		Level: level, Authorization: s.g.GetHeader("Authorization"), Project: s.g.Param("project_name"),
	})
	return err //nolint:wrapcheck // says what it was doing
}

// stopped ends a stream whose reader is gone; that is nobody's fault.
func (s *stream) stopped(err error) {
	if err != nil && s.g.Request.Context().Err() == nil {
		s.a.deps.Log.Debug().Err(err).Str("path", s.g.Request.URL.Path).Msg("stream ended")
	}
}

// watchRun sends the run at once and then whenever it changes, until its
// status is final.
func watchRun(a *API, g *gin.Context, c call) error {
	in, err := input[api.WatchRunRequest](g)
	if err != nil {
		return err
	}
	changed := a.deps.Changes.wait()
	run, err := a.findRunView(g.Request.Context(), c, in.RunName, in.ID)
	if err != nil {
		return err
	}
	// A run that is replaced under its name meanwhile is still this one.
	in.ID = &run.ID
	s := a.openStream(g)
	defer s.close()
	s.stopped(s.watch(c, in, run, changed))
	return nil
}

func (s *stream) watch(c call, in api.WatchRunRequest, run api.Run, changed <-chan struct{}) error {
	var last []byte
	for {
		line, err := json.Marshal(run)
		if err != nil {
			return fmt.Errorf("encode run: %w", err)
		}
		if !bytes.Equal(line, last) {
			last = line
			if err := s.line(bytes.Clone(line)); err != nil {
				return err
			}
		}
		if run.Status.Finished() {
			return nil
		}
		var tick time.Duration
		if pulling(&run) {
			tick = pullTick
		}
		if on, err := s.pause(tick, changed); !on || err != nil {
			return err
		}
		if on, err := s.pause(calm, nil); !on || err != nil {
			return err
		}
		changed = s.a.deps.Changes.wait()
		if err := s.admitted(); err != nil {
			return err
		}
		if run, err = s.a.findRunView(s.g.Request.Context(), c, nil, in.ID); err != nil {
			return err
		}
	}
}

func pulling(run *api.Run) bool {
	return run.LatestJobSubmission != nil && run.LatestJobSubmission.Status == api.JobPulling
}

// followLogs sends what a submission's log has and gets, until it is complete.
func followLogs(a *API, g *gin.Context, c call) error {
	in, err := input[api.FollowLogsRequest](g)
	if err != nil {
		return err
	}
	key, found, err := a.findLog(g.Request.Context(), c, in.JobSubmissionID)
	if err != nil {
		return err
	}
	if !found {
		return notExists("Job submission %s does not exist in project %s", in.JobSubmissionID, c.Project.Name)
	}
	kept, err := a.deps.Logs.Kept(g.Request.Context(), key)
	if err != nil {
		return fmt.Errorf("find log: %w", err)
	}
	if in.Since != nil && kept != logs.Nowhere {
		if in.Offset, err = a.offsetSince(g.Request.Context(), key, in.Since.Time); err != nil {
			return err
		}
	}
	s := a.openStream(g)
	defer s.close()
	s.stopped(s.follow(key, max(in.Offset, 0), in.Since))
	return nil
}

// offsetSince is where the log goes on after a time.
func (a *API) offsetSince(ctx context.Context, key logs.Key, since time.Time) (int64, error) {
	page, err := a.deps.Logs.Poll(ctx, key, logs.PollOptions{Start: &since, Limit: 1})
	if err != nil {
		return 0, fmt.Errorf("find place in log: %w", err)
	}
	if len(page.Events) > 0 {
		return page.Events[0].Offset, nil
	}
	size, err := a.deps.Logs.Size(key)
	if err != nil {
		return 0, fmt.Errorf("find end of log: %w", err)
	}
	return size, nil
}

func (s *stream) follow(key logs.Key, offset int64, since *api.Time) error {
	woken, stop := s.a.deps.Logs.Watch(key)
	defer stop()
	for {
		// In this order: a job is finished only once its log is complete.
		changed := s.a.deps.Changes.wait()
		finished, err := s.finished(key.JobID)
		if err != nil {
			return err
		}
		if offset, err = s.replay(key, offset, since); err != nil {
			return err
		}
		offset, err = s.sendFrom(key, offset)
		if errors.Is(err, logs.ErrRemoved) {
			continue // replay has it
		}
		if err != nil {
			return err
		}
		if finished {
			return s.send(api.LogChunk{Offset: offset, Timestamp: api.At(s.a.deps.Now()), Message: []byte{}, End: true})
		}
		if on, err := s.pause(0, woken, changed); !on || err != nil {
			return err
		}
	}
}

// sendFrom sends what a log has now, and says where it goes on.
func (s *stream) sendFrom(key logs.Key, offset int64) (int64, error) {
	buf := make([]byte, chunkSize)
	for {
		n, err := s.a.deps.Logs.ReadAt(key, offset, buf)
		if err != nil {
			return offset, fmt.Errorf("read log: %w", err)
		}
		if err := s.admitted(); err != nil {
			return offset, err
		}
		if n == 0 {
			return offset, nil
		}
		if err := s.send(api.LogChunk{Offset: offset, Timestamp: api.At(s.a.deps.Now()), Message: buf[:n]}); err != nil {
			return offset, err
		}
		offset += int64(n)
	}
}

// replay sends what is before the part of the log that is on the disk, from
// where it was shipped to. Not all storages know offsets, so it reads from the
// beginning and counts. What nobody has is left out.
func (s *stream) replay(key logs.Key, offset int64, since *api.Time) (int64, error) {
	ctx := s.g.Request.Context()
	kept, err := s.a.deps.Logs.Kept(ctx, key)
	if err != nil || offset >= kept {
		return offset, err //nolint:wrapcheck // says what it was doing
	}
	opts := logs.PollOptions{Limit: maxLogs}
	for at := int64(0); ; {
		page, err := s.a.deps.Logs.Poll(ctx, key, opts)
		if err != nil {
			return offset, fmt.Errorf("read log: %w", err)
		}
		for _, e := range page.Events {
			at = max(at, e.Offset)
			end := at + int64(len(e.Data))
			if at >= kept {
				return max(offset, kept), nil
			}
			if end > offset && (since == nil || e.At.After(since.Time)) {
				from := max(offset, at)
				if err := s.send(api.LogChunk{Offset: from, Timestamp: api.At(e.At), Message: e.Data[from-at:]}); err != nil {
					return offset, err
				}
				offset = end
			}
			at = end
		}
		if opts.Token = page.Next; opts.Token == "" {
			break
		}
	}
	if kept == logs.Nowhere {
		return offset, nil
	}
	return max(offset, kept), nil
}

func (s *stream) finished(jobID string) (bool, error) {
	finished := false
	err := s.a.deps.Store.Read(s.g.Request.Context(), func(tx *store.Tx) error {
		job, err := tx.Job(jobID)
		if err != nil {
			return fmt.Errorf("find job: %w", err)
		}
		finished = job.Status.Finished()
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("read job: %w", err)
	}
	return finished, nil
}
