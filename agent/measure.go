package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"strings"

	"dstack/agent/metrics"
)

// measured says what of the job is measured.
func (j *job) measured() metrics.Config {
	c := metrics.Config{
		Root: os.DirFS(j.config.Root), PID: os.Getpid(), JobID: j.spec.JobID, Isolated: j.spec.Isolated,
		GPUs: j.spec.GPUsPerNode, Run: j.output, Idle: j.idle, Log: j.logger,
	}
	if !j.spec.Isolated {
		c.Visible = j.spec.Env["CUDA_VISIBLE_DEVICES"] + j.spec.Env["HABANA_VISIBLE_DEVICES"]
	}
	return c
}

// measure measures the job from now on. The function that it returns ends
// that, and waits for it.
func (j *job) measure(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		j.meter.Run(ctx, j.config.Measure)
	}()
	return func() {
		cancel()
		<-done
	}
}

// maxOutput bounds what a program may print.
const maxOutput = 1 << 20

// output runs a program and returns what it prints. The job's reaper waits
// for it: nothing else in this process may.
func (j *job) output(ctx context.Context, name string, args ...string) ([]byte, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer read.Close()                   //nolint:errcheck // only read
	cmd := osexec.Command(name, args...) //nolint:noctx // killed below: its own way to wait is not ours
	cmd.Stdout = write
	_, exited, err := j.reaper.Start(func() (int, error) {
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	})
	if err := errors.Join(err, write.Close()); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer cmd.Process.Release() //nolint:errcheck // the handle only
	defer context.AfterFunc(ctx, func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = read.Close()       // what it started may hold the other end
	})()
	out, err := io.ReadAll(io.LimitReader(read, maxOutput))
	if ctx.Err() != nil {
		return nil, fmt.Errorf("run %s: %w", name, context.Cause(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("read output of %s: %w", name, err)
	}
	select {
	case status := <-exited:
		if code := status.ExitStatus(); code != 0 {
			return nil, fmt.Errorf("%s ended with %d: %s", name, code, strings.TrimSpace(string(out)))
		}
		return out, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("run %s: %w", name, context.Cause(ctx))
	}
}
