// Package pid1 is the init process of a container: it starts one child,
// forwards signals to it, reaps whatever ends, and ends as the child ends.
package pid1

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"dstack/agent/reap"
)

// Run starts the program at path with args (args[0] is its name) and returns
// its exit code, 128+n after signal n. Signals are forwarded until then.
func Run(ctx context.Context, path string, args []string) (int, error) {
	// Orphans come to us even where we are not process 1.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("become subreaper: %w", err)
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	defer signal.Stop(signals)

	reaper := reap.New()
	pid, exit, err := reaper.Start(func() (int, error) {
		return syscall.ForkExec(path, args, &syscall.ProcAttr{
			Env:   os.Environ(),
			Files: []uintptr{0, 1, 2},
		})
	})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", path, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error { return reaper.Run(ctx) })
	status, err := forward(signals, pid, exit)
	cancel()
	if waitErr := g.Wait(); err == nil {
		err = waitErr
	}
	return reap.Code(status), err
}

// forward sends what arrives on signals to pid until it has ended.
func forward(signals <-chan os.Signal, pid int, exit <-chan syscall.WaitStatus) (syscall.WaitStatus, error) {
	for {
		select {
		case status := <-exit:
			return status, nil
		case s := <-signals:
			number, ok := s.(syscall.Signal)
			if !ok {
				continue
			}
			// The child is there until its exit was read above, or just ended.
			if err := syscall.Kill(pid, number); err != nil && err != syscall.ESRCH {
				return 0, fmt.Errorf("forward signal %v: %w", s, err)
			}
		}
	}
}
