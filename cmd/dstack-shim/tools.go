package main

import (
	"context"
	"fmt"
	"os/exec"
	"sync"
	"time"
)

// commandLimit bounds a vendor's tool. Without persistence mode nvidia-smi
// needs seconds for each GPU.
const commandLimit = 30 * time.Second

// volumeLimit bounds a program that looks at a volume, formats or mounts it.
const volumeLimit = 10 * time.Minute

// tools runs programs of the host that may hang: one that waits for a broken
// accelerator cannot even be killed.
type tools struct {
	limit time.Duration

	mu    sync.Mutex
	stuck map[string]bool // names of programs that did not end when killed
}

func newTools(limit time.Duration) *tools {
	return &tools{limit: limit, stuck: map[string]bool{}}
}

// run runs a program and returns what it printed to stdout, also when it
// failed. It returns after the limit at the latest, and does not start a
// program again of which one hangs.
func (t *tools) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	t.mu.Lock()
	hangs := t.stuck[name]
	t.mu.Unlock()
	if hangs {
		return nil, fmt.Errorf("run %s: the one that was started before still hangs", name)
	}
	ctx, cancel := context.WithTimeout(ctx, t.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	type result struct {
		out []byte
		err error
	}
	ended := make(chan result, 1)
	gone := make(chan struct{})
	go func() { // ends with the program, which outlives this one only if the kernel holds it
		defer close(gone)
		out, err := cmd.Output()
		ended <- result{out, err}
	}()
	select {
	case r := <-ended:
		return r.out, r.err
	case <-ctx.Done():
	}
	select { // it was killed
	case r := <-ended:
		return r.out, fmt.Errorf("it did not answer within %v: %w", t.limit, r.err)
	case <-time.After(2 * cmd.WaitDelay):
	}
	t.hang(name, true)
	go func() { // ends as the one above
		<-gone
		t.hang(name, false)
	}()
	return nil, fmt.Errorf("run %s: it hangs and cannot be killed", name)
}

func (t *tools) hang(name string, hangs bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stuck[name] = hangs
}
