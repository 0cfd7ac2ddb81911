// Package metrics keeps what jobs use: hosts push it, and it is written in
// batches, so that any number of jobs costs one transaction per interval.
package metrics

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"dstack/controller/store"
	"dstack/protocol/hostapi"
)

// Times of a collector.
const (
	// flushEvery is how long a point waits for others.
	flushEvery = time.Second
	// maxAge is how old a point may be when it comes.
	maxAge = time.Hour
	// cleanEvery is how often old points are deleted.
	cleanEvery = 5 * time.Minute
)

// maxPending bounds the points that wait; the oldest go first. It is more
// than ten thousand jobs bring while the disk stands still for a minute.
// maxSources bounds what hosts can make us remember.
const (
	maxPending = 100_000
	maxSources = 100_000
)

// Options are what a collector works with; all are needed.
type Options struct {
	Store *store.Store
	// Owns says whether a job is one of the instance: hosts are whatever a
	// member of a project calls so.
	Owns func(ctx context.Context, instanceID, jobID string) (bool, error)
	// RunningTTL and FinishedTTL are how long points of jobs are kept that
	// run, and that have ended.
	RunningTTL, FinishedTTL time.Duration
	Now                     func() time.Time
	Log                     zerolog.Logger
}

// Collector takes points and stores them. It is safe for concurrent use.
type Collector struct {
	opt  Options
	news chan struct{}

	mu      sync.Mutex
	pending []arrival
	// last is when the newest point of a job was measured.
	last map[source]time.Time
	lost int
}

// source is an instance and the job that it tells of.
type source struct{ instance, job string }

// arrival is a point with where it came from.
type arrival struct {
	from  source
	point store.MetricsPoint
}

// New makes a collector. Nothing is stored until Run.
func New(opt Options) *Collector {
	return &Collector{opt: opt, news: make(chan struct{}, 1), last: map[source]time.Time{}}
}

// TaskUsed takes one measurement. It does not block.
func (c *Collector) TaskUsed(instanceID string, u hostapi.TaskUsage) {
	age := time.Duration(min(max(u.AgeMillis, 0), int64(maxAge/time.Millisecond))) * time.Millisecond
	at := c.opt.Now().Add(-age).UTC().Truncate(time.Microsecond)
	c.mu.Lock()
	defer c.mu.Unlock()
	// A little less than the interval: what was sent in time may arrive early.
	from := source{instanceID, u.TaskID}
	if at.Sub(c.last[from]) < hostapi.UsageEvery/2 {
		return
	}
	if len(c.last) >= maxSources {
		clear(c.last)
	}
	c.last[from] = at
	if len(c.pending) >= maxPending {
		c.pending = c.pending[1:]
		c.lost++
	}
	c.pending = append(c.pending, arrival{from, store.MetricsPoint{
		JobID: u.TaskID, At: at, CPUMicro: u.Usage.CPUMicro, MemoryBytes: u.Usage.MemoryBytes,
		WorkingSetBytes: u.Usage.WorkingSetBytes, GPUs: u.Usage.GPUs,
	}})
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// Run stores what comes, and deletes what is old, until ctx ends; then it
// stores what is left.
func (c *Collector) Run(ctx context.Context) error {
	clean := time.NewTicker(cleanEvery)
	defer clean.Stop()
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			c.flush(context.WithoutCancel(ctx))
			return nil
		case <-c.news:
			if due == nil {
				due = time.After(flushEvery)
			}
		case <-due:
			due = nil
			c.flush(ctx)
		case <-clean.C:
			c.clean(ctx)
		}
	}
}

// flush stores all points that wait, in one transaction.
func (c *Collector) flush(ctx context.Context) {
	c.mu.Lock()
	pending, lost := c.pending, c.lost
	c.pending, c.lost = nil, 0
	c.mu.Unlock()
	points, err := c.owned(ctx, pending)
	if err == nil && len(points) > 0 {
		err = c.opt.Store.Write(ctx, func(tx *store.Tx) error { return tx.InsertMetrics(points...) })
	}
	if (err != nil || lost > 0) && ctx.Err() == nil {
		// They are missed by nobody but a graph.
		c.opt.Log.Warn().Err(err).Int("points", len(pending)).Int("dropped", lost).Msg("metrics not stored")
	}
}

// owned keeps the points of jobs that are of the instance that tells of them.
func (c *Collector) owned(ctx context.Context, list []arrival) ([]store.MetricsPoint, error) {
	var points []store.MetricsPoint
	owns := map[source]bool{}
	for _, a := range list {
		ok, known := owns[a.from]
		if !known {
			var err error
			if ok, err = c.opt.Owns(ctx, a.from.instance, a.from.job); err != nil {
				return nil, fmt.Errorf("find job of metrics: %w", err)
			}
			owns[a.from] = ok
		}
		if ok {
			points = append(points, a.point)
		}
	}
	return points, nil
}

func (c *Collector) clean(ctx context.Context) {
	now := c.opt.Now()
	c.mu.Lock()
	for from, at := range c.last {
		if now.Sub(at) > maxAge {
			delete(c.last, from)
		}
	}
	c.mu.Unlock()
	err := c.opt.Store.Write(ctx, func(tx *store.Tx) error {
		return tx.DeleteMetrics(now.Add(-c.opt.RunningTTL), now.Add(-c.opt.FinishedTTL))
	})
	if err != nil && ctx.Err() == nil {
		c.opt.Log.Warn().Err(err).Msg("old metrics could not be deleted")
	}
}
