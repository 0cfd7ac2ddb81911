package gpu

import (
	"fmt"
	"sync"
)

// Table is who holds which accelerator. It is safe for concurrent use.
type Table struct {
	mu     sync.Mutex
	ids    []string          // in the host's order
	holder map[string]string // id → task
}

// Set replaces the list of accelerators; what is held stays held.
func (t *Table) Set(ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ids = append([]string(nil), ids...)
}

// Take gives n free accelerators to a task, in the host's order, or fails
// with [ErrNotEnough]. What the task held before is returned first.
func (t *Table) Take(task string, n int) ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.release(task)
	var free []string
	for _, id := range t.ids {
		if _, held := t.holder[id]; !held {
			free = append(free, id)
		}
	}
	if n > len(free) {
		return nil, fmt.Errorf("%w: %d GPUs requested, %d available", ErrNotEnough, n, len(free))
	}
	t.hold(task, free[:n])
	return append([]string(nil), free[:n]...), nil
}

// Hold notes that a task holds accelerators: after a restart of the shim.
func (t *Table) Hold(task string, ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hold(task, ids)
}

func (t *Table) hold(task string, ids []string) {
	if t.holder == nil {
		t.holder = map[string]string{}
	}
	for _, id := range ids {
		t.holder[id] = task
	}
}

// Release returns all that a task holds.
func (t *Table) Release(task string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.release(task)
}

func (t *Table) release(task string) {
	for id, holder := range t.holder {
		if holder == task {
			delete(t.holder, id)
		}
	}
}
