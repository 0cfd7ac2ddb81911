package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dstack/controller/api"
	"dstack/controller/logs"
	"dstack/controller/logs/cloudwatch"
	"dstack/controller/logs/fluentbit"
	"dstack/controller/logs/gcplogging"
	"dstack/controller/logs/objectlog"
	"dstack/controller/logs/ship"
	"dstack/controller/objects"
	"dstack/controller/store"
)

// logCheckLimit is how long a start waits for the answer of a storage of logs.
const logCheckLimit = 5 * time.Second

// logStorage is where logs are copied to. It may also be a [logs.Remote], and
// have pages for people.
type logStorage interface {
	ship.Backend
	// Check finds out whether it can be used as it is set up. Its error is a
	// sentence for the user, or a [*ship.UnreachableError].
	Check(ctx context.Context) error
}

// openLogStorage connects to the storage of logs, if one is set. What is wrong
// with the settings stops the start; a storage that can't be reached does not.
func (s *Server) openLogStorage(ctx context.Context) error {
	names := s.cfg.Settings.Logs.set()
	if len(names) == 0 {
		return nil
	}
	for _, ignored := range names[1:] {
		s.log.Warn().Msgf("%s is ignored: logs go where %s says", ignored, names[0])
	}
	to, err := s.newLogStorage(ctx, names[0])
	if err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, logCheckLimit)
	defer cancel()
	err = to.Check(ctx)
	if _, away := errors.AsType[*ship.UnreachableError](err); err != nil && !away {
		return fmt.Errorf("cannot start: %w", err)
	}
	if err != nil {
		s.log.Warn().Err(err).Msg("The log storage can't be reached; logs are kept on the disk and sent later")
	}
	s.logsTo = to
	return nil
}

// newLogStorage is the storage that a variable names.
func (s *Server) newLogStorage(ctx context.Context, variable string) (logStorage, error) {
	set := s.cfg.Settings.Logs
	switch variable {
	case cloudwatch.VariableGroup:
		return cloudwatch.Open(ctx, set.CloudWatchGroup, set.CloudWatchRegion, s.log) //nolint:wrapcheck // a sentence
	case gcplogging.Variable:
		return gcplogging.Open(ctx, gcplogging.Options{Project: set.GCPProject, Endpoint: set.GCPEndpoint, Getenv: s.cfg.Getenv}) //nolint:wrapcheck // a sentence
	case fluentbit.VariableHost:
		return fluentbit.New(set.Fluent), nil
	}
	target, err := objects.Parse(set.URL)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", logsURL, err)
	}
	return objectlog.New(target, func(ctx context.Context) (objectlog.Bucket, error) {
		return objects.Open(ctx, target, s.cfg.Getenv)
	}), nil
}

// openLogs opens the logs on the disk, and wires the copying.
func (s *Server) openLogs() {
	opts := logs.Options{Dir: s.cfg.Settings.Dir, Now: s.cfg.Now, Ended: s.jobEnded}
	if s.logsTo != nil {
		opts.Remote, _ = s.logsTo.(logs.Remote)
		opts.Appended = func(k logs.Key, before, size int64) { s.shipper.Appended(k, before, size) }
	}
	s.logs = logs.New(opts)
	if s.logsTo != nil {
		s.shipper = ship.New(ship.Options{Store: s.logs, Backend: s.logsTo, Log: s.log})
	}
}

// jobEnded says whether nothing is added to the log of a job any more.
func (s *Server) jobEnded(ctx context.Context, jobID string) (ended bool, err error) {
	err = s.store.Read(ctx, func(tx *store.Tx) error {
		job, err := tx.Job(jobID)
		ended = err == nil && job.Status.Finished()
		if errors.Is(err, store.ErrNotFound) {
			ended = true
			return nil
		}
		return err //nolint:wrapcheck // says what it was doing
	})
	if err != nil {
		return false, fmt.Errorf("look at job of log: %w", err)
	}
	return ended, nil
}

// shipLogs copies logs to their storage until ctx ends.
func (s *Server) shipLogs(ctx context.Context) error {
	if s.shipper == nil || s.cfg.Settings.NoBackground {
		return nil
	}
	return s.shipper.Run(ctx) //nolint:wrapcheck // says what it was doing
}

// Between two looks at what logs take on the disk pass at least retainEvery,
// and 20 times as long as the last one took.
const retainEvery = 10 * time.Second

// retainLogs removes logs that are too old or too much until ctx ends.
func (s *Server) retainLogs(ctx context.Context) error {
	set := s.cfg.Settings.Logs
	limits := logs.Limits{Age: set.Age, Bytes: set.Bytes, Hard: set.Hard}
	if s.cfg.Settings.NoBackground || limits == (logs.Limits{}) {
		return nil
	}
	if s.logsTo != nil {
		limits.To = s.logsTo.Name()
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	over := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		began := time.Now()
		removed, err := s.logs.Retain(ctx, limits)
		if ctx.Err() == nil {
			over = s.reportRetention(removed, err, over)
		}
		timer.Reset(max(retainEvery, 20*time.Since(began)))
	}
}

// reportRetention says what was removed, and, once, that it was not enough.
func (s *Server) reportRetention(removed logs.Removed, err error, over bool) bool {
	if err != nil {
		s.log.Warn().Err(err).Msg("Some old logs could not be removed from the disk")
	}
	if removed.Lost > 0 {
		s.logsLost.Add(removed.Lost)
		s.log.Error().Int64("bytes", removed.Lost).Msg("Logs were removed from the disk that the log storage does not have: they were over DSTACK_SERVER_LOGS_HARD_MAX_BYTES")
	}
	if removed.Bytes > 0 {
		s.log.Info().Int64("bytes", removed.Bytes).Msg("Old logs were removed from the disk")
	}
	if removed.Over > 0 && !over {
		s.log.Warn().Int64("bytes", removed.Over).Msg("Logs take more of the disk than they may: what is left is of running jobs, or not in the log storage yet")
	}
	return removed.Over > 0
}

// logShipping tells the health check how the copying stands; nil: there is none.
func (s *Server) logShipping() func() *api.LogShipping {
	if s.shipper == nil {
		return nil
	}
	return func() *api.LogShipping {
		st := s.shipper.Status()
		return &api.LogShipping{LagBytes: st.Bytes, LagSeconds: st.Lag.Seconds(), Failing: st.Failing}
	}
}

// logURL gives people the page of a log in its storage; nil: it has none.
func (s *Server) logURL() func(logs.Key) string {
	if to, ok := s.logsTo.(interface{ URL(k logs.Key) string }); ok {
		return to.URL
	}
	return nil
}
