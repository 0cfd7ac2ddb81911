// Package workload says what a runtime (Docker, plain processes) is asked to
// run and how it ended, in terms that hold for every runtime.
package workload

import (
	"errors"
	"time"

	"dstack/protocol/hostapi"
)

// Task is one execution for a runtime. Its ID names it for ever: a runtime
// starts at most one thing for it.
type Task struct {
	ID   string
	Spec hostapi.TaskSpec
	// RunDir is the folder on the host that the task and the shim share.
	RunDir string
	// PrivateDir is the task's folder that only the shim sees.
	PrivateDir string
	// GPUs are the ids of the accelerators that the task holds.
	GPUs      []string
	GPUVendor string
	// Owner is the user that the task runs as where the runtime gives it one; 0 if not.
	Owner int
}

// Image is what an image says of how to run it; zero for plain processes.
type Image struct {
	Entrypoint []string
	Cmd        []string
	User       string
	// Note is a remark for the user, for example that an old copy is used.
	Note string
}

// Exit is how a workload ended, as its runtime saw it.
type Exit struct {
	// Code is 128+n after signal n; -1 if unknown.
	Code int
	// OOM says that the kernel killed a process of it for lack of memory.
	OOM bool
	// Missing says that the runtime knows nothing of it any more.
	Missing bool
	// NeverStarted says that it was made and, as far as the runtime knows, not started.
	NeverStarted bool
	// EngineRestarted says that the engine was restarted and ended it.
	EngineRestarted bool
	At              time.Time
}

// Engine is the state of the thing behind a runtime.
type Engine struct {
	Version     string
	LiveRestore bool
	// Root is the folder whose file system holds images and containers.
	Root string
	// Problem is why no task can be started now.
	Problem *hostapi.Problem
}

// StartError is why a task could not be brought up, with what the user sees.
type StartError struct {
	// Reason is a job termination reason of the REST API.
	Reason  string
	Message string
}

func (f *StartError) Error() string { return f.Message }

// ErrEngineDown says that the engine cannot be reached now; the same call may
// be made again later.
var ErrEngineDown = errors.New("the Docker Engine cannot be reached")
