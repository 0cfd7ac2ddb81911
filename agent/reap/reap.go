// Package reap waits for children: those that were started on purpose, whose
// exit is reported, and those that were inherited, so that no zombie stays.
package reap

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Reaper collects every child of this process. Nothing else in the process
// may wait for children. Run must be running for anything to be collected.
type Reaper struct {
	mu    sync.Mutex
	exits map[int]chan<- syscall.WaitStatus
}

// New returns a reaper of this process's children.
func New() *Reaper { return &Reaper{exits: map[int]chan<- syscall.WaitStatus{}} }

// Start calls fork, which starts a child and returns its pid, and returns the
// pid and a channel that gets the child's status once it has ended.
func (r *Reaper) Start(fork func() (int, error)) (int, <-chan syscall.WaitStatus, error) {
	// The lock keeps a child that ends at once from being collected before
	// it is known whose it is.
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := fork()
	if err != nil {
		return 0, nil, err
	}
	exit := make(chan syscall.WaitStatus, 1)
	r.exits[pid] = exit
	return pid, exit, nil
}

// Run collects children until ctx ends.
func (r *Reaper) Run(ctx context.Context) error {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	defer signal.Stop(died)
	for {
		for r.collect() {
		}
		select {
		case <-ctx.Done():
			return nil
		case <-died:
		}
	}
}

// collect collects one child and says whether there was one.
func (r *Reaper) collect() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	if errors.Is(err, syscall.EINTR) {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	if exit, ok := r.exits[pid]; ok {
		delete(r.exits, pid)
		exit <- status
	}
	return true
}

// Code turns a status into an exit code as a shell does: 128+n after signal n.
func Code(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
