package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"dstack/agent/serversock"
	"dstack/protocol/jobapi"
)

// serverLimit is how long a job waits for its server before it starts (spec:
// orchestration.md, appendix 72).
const serverLimit = 2 * time.Minute

// noServer is the text of 0.22.5 for a job that could not reach its server.
const noServer = "Could not establish dstack server access"

// openServer makes the socket at which the job reaches the server, and tells
// the job where it is unless its user did.
func (j *job) openServer() error {
	path := filepath.Join(j.config.Root, jobapi.ServerSocket)
	if !j.spec.Isolated {
		path = filepath.Join(j.config.Dir, filepath.Base(jobapi.ServerSocket))
	}
	var err error
	if j.server, err = serversock.Listen(path); err != nil {
		return err
	}
	if path != jobapi.ServerSocket && j.spec.Env[jobapi.ServerURL] == jobapi.DefaultServerURL {
		j.spec.Env[jobapi.ServerURL] = j.server.URL()
	}
	return nil
}

// awaitServer returns when the server answers at the job's socket, or it was
// ordered to stop; else the final status of the job.
func (j *job) awaitServer(ctx context.Context) *jobapi.Status {
	if !j.spec.ServerAccess {
		return nil
	}
	message := noServer
	if j.serverErr != nil {
		message = fmt.Sprintf("%s (%v)", noServer, j.serverErr)
	} else {
		ctx, cancel := j.untilOrdered(ctx)
		defer cancel()
		timer := time.NewTimer(j.config.ServerLimit)
		defer timer.Stop()
		select {
		case <-j.server.Asked():
			return nil
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
	}
	return &jobapi.Status{State: jobapi.Terminated, Reason: reasonTerminated, Message: message}
}
