// Package metrics measures what a job uses of its host: CPU time and memory
// of its control group, or of its processes where it has none of its own, and
// its accelerators (spec: job-execution.md 8.3).
package metrics

import (
	"context"
	"io/fs"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"dstack/protocol/jobapi"
)

// Command runs a program and returns its output.
type Command func(ctx context.Context, name string, args ...string) ([]byte, error)

// Config says what to measure.
type Config struct {
	// Root is the file system of this machine.
	Root fs.FS
	// PID is the process of the agent: the job's are below it.
	PID int
	// JobID names the control group of a job that runs as a plain process.
	JobID string
	// Isolated says that the job has a container of its own.
	Isolated bool
	// GPUs is how many accelerators the job has; 0 looks for none.
	GPUs int
	// Visible are the ids of the job's accelerators where it can see others,
	// comma-separated; empty means all that it sees.
	Visible string
	Run     Command
	// Idle says for how long nobody has been connected to the job, if that is
	// known; nil means that it never is.
	Idle func(now time.Time) (idle time.Duration, known bool)
	Log  zerolog.Logger
}

// Meter measures one job. It is safe for concurrent use.
type Meter struct {
	cfg Config

	mu    sync.Mutex
	last  *jobapi.Usage
	next  chan struct{} // closed and replaced at each measurement
	blind bool          // a failure was logged
}

// New makes a meter; it measures nothing by itself.
func New(cfg Config) *Meter { return &Meter{cfg: cfg, next: make(chan struct{})} }

// Get returns the last measurement, nil before the first, and a channel that
// is closed at the next one.
func (m *Meter) Get() (*jobapi.Usage, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last, m.next
}

// early is when the second measurement comes: one alone tells no CPU load.
const early = 2 * time.Second

// Run measures at once, soon after, then each interval, until ctx ends.
func (m *Meter) Run(ctx context.Context, interval time.Duration) {
	ticks := time.NewTicker(interval)
	defer ticks.Stop()
	soon := time.NewTimer(min(early, interval))
	defer soon.Stop()
	for {
		m.Measure(ctx)
		select {
		case <-ctx.Done():
			return
		case <-soon.C:
		case <-ticks.C:
		}
	}
}

// Measure measures once. What cannot be measured is left out; without CPU and
// memory there is no measurement.
func (m *Meter) Measure(ctx context.Context) {
	usage, err := m.cfg.usage()
	if err == nil && m.cfg.GPUs > 0 {
		usage.GPUs, err = m.cfg.gpus(ctx)
	}
	if usage != nil && m.cfg.Idle != nil {
		if idle, known := m.cfg.Idle(time.Now()); known {
			usage.NoConnectionsSecs = new(int(idle / time.Second))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil && ctx.Err() == nil && !m.blind {
		m.blind = true
		m.cfg.Log.Warn().Err(err).Msg("usage not measured in full")
	}
	if usage == nil || ctx.Err() != nil {
		return
	}
	m.last = usage
	close(m.next)
	m.next = make(chan struct{})
}
