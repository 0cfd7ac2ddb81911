package hosts

import (
	"context"
	"time"

	"dstack/protocol/hostapi"
)

// Observer is told what is seen on the hosts. Each method that takes a
// context returns nil only once the observation is committed; on an error the
// observation is made again later. Calls for one instance never overlap, but
// HostKeyPinned may come at any time.
type Observer interface {
	// HostReached says that an SSH connection stands. It comes each time, before
	// the shim is looked for; not for this machine.
	HostReached(ctx context.Context, instanceID string) error
	// HostUp says that the host answers. hello.Tasks lists what exists there,
	// to find orphans and lost tasks; a task's state is only that of
	// TaskChanged, which for a final state waits until its log is stored.
	// When hello.Info.HostID is not the one stored, the installation is a new
	// one and its Seq starts again at 0.
	HostUp(ctx context.Context, instanceID string, hello hostapi.Hello) error
	// HostDown says that the connection was lost or could not be made. It
	// comes at once, and again only when the problem changes.
	HostDown(ctx context.Context, instanceID string, problem *hostapi.Problem) error
	// HostInfo says that the host's facts or its problem changed.
	HostInfo(ctx context.Context, instanceID string, info hostapi.Info) error
	// HostKeyPinned says which host keys the host may show from now on, in the
	// format of Target.HostKeys. It comes before the first HostUp, and again
	// when the first key of a rented machine is replaced.
	HostKeyPinned(ctx context.Context, instanceID string, keys []string) error
	// TaskChanged brings the events of a host strictly in the order of seq.
	// A seq that is already stored is a repeat, and a no-op.
	TaskChanged(ctx context.Context, instanceID string, seq uint64, task hostapi.Task) error
	// PullProgress is for memory only.
	PullProgress(jobID string, p hostapi.PullProgress)
	// TaskUsed says what a job of the host used. It may be lost.
	TaskUsed(instanceID string, u hostapi.TaskUsage)
}

// LogSink stores the plain logs of jobs, addressed by byte offset.
type LogSink interface {
	// Append stores data at offset and returns the size of the log after it.
	// What is stored already is left as it is, so a repeat is a no-op. If
	// offset is beyond the size, nothing is stored and the size returned is
	// lower than offset. The log of a job that is not one of the instance is
	// dropped: the size returned is then offset+len(data).
	Append(ctx context.Context, instanceID, jobID string, offset int64, at time.Time, data []byte) (size int64, err error)
	// Size is how many bytes are stored; 0 for a job not of the instance.
	Size(ctx context.Context, instanceID, jobID string) (int64, error)
}
