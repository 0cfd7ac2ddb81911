// Package shim is the daemon of one host: it runs the tasks that the
// controller gives it, each at most once, and reports what became of them.
// It decides nothing else.
package shim

import (
	"context"
	"time"

	"dstack/protocol/hostapi"
	"dstack/shim/workload"
)

// Runtime runs workloads. Calls for one task never overlap, except that Kill
// and Tail may come while Wait waits. An error that is a [workload.StartError]
// ends the task; any other is a fault that may pass, and the call is repeated.
type Runtime interface {
	Kind() hostapi.Runtime
	// Run watches the engine until ctx ends.
	Run(ctx context.Context) error
	Engine() workload.Engine
	// Prepare makes what the task needs on the host and fills in RunDir,
	// Owner and what of the job depends on the runtime; repeatable.
	Prepare(ctx context.Context, t workload.Task) (workload.Task, error)
	// Pull makes the image present; it ends when ctx ends.
	Pull(ctx context.Context, spec hostapi.TaskSpec, report func(hostapi.PullProgress)) (workload.Image, error)
	// Launch starts the task unless it was ever started, and says which
	// ports of the host lead to it. While fresh is false, nothing is started.
	Launch(ctx context.Context, t workload.Task, fresh func() bool) (map[int]int, error)
	// Wait returns once nothing of the task runs any more.
	Wait(ctx context.Context, t workload.Task) (workload.Exit, error)
	// Kill ends a task at once; one that has ended is no error.
	Kill(ctx context.Context, t workload.Task) error
	// Tail is what a workload said outside of its log, for the user.
	Tail(ctx context.Context, t workload.Task) string
	// Remove removes everything of a task but its private folder; repeatable.
	Remove(ctx context.Context, t workload.Task) error
	// Sweep removes what belongs to tasks that are not to be kept.
	Sweep(ctx context.Context, keep func(id string) bool) error
	// Prune frees disk space that no task needs if there is little left.
	Prune(ctx context.Context, disk func() (size, free int64), now time.Time) error
}
