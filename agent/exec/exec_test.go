package exec

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSchedule(t *testing.T) {
	t.Parallel()
	usual := DefaultSchedule()
	tests := []struct {
		name     string
		schedule Schedule
		elapsed  time.Duration
		stage    Stage
		next     time.Duration
	}{
		{"at once", usual, 0, Interrupt, 5 * time.Second},
		{"just before HUP", usual, 5*time.Second - 1, Interrupt, 5 * time.Second},
		{"HUP", usual, 5 * time.Second, Hangup, 10 * time.Second},
		{"KILL", usual, 10 * time.Second, Kill, 0},
		{"more grace", usual.WithGrace(time.Minute), 59 * time.Second, Hangup, time.Minute},
		{"less grace does not count", usual.WithGrace(time.Second), 2 * time.Second, Interrupt, 5 * time.Second},
		{"no grace", Schedule{}, 0, Kill, 0},
		{"KILL before HUP", Schedule{Hangup: 5, Kill: 3}, 1, Interrupt, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if stage, next := tt.schedule.At(tt.elapsed); stage != tt.stage || next != tt.next {
				t.Errorf("At(%v) = %v, %v", tt.elapsed, stage, next)
			}
		})
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	tests := []struct {
		stat string
		want process
		ok   bool
	}{
		{"12 (sh) S 1 12 11 34816 -1 4194304", process{pid: 12, parent: 1, session: 11}, true},
		{"12 (a) R 1 (b) Z 3 12 11 34816 -1", process{pid: 12, parent: 3, session: 11, zombie: true}, true},
		{"12 sh S 1 12 11", process{}, false},
		{"12 (sh) S 1", process{}, false},
		{"x (sh) S 1 12 11 0", process{}, false},
		{")(", process{}, false},
	}
	for _, tt := range tests {
		got, ok := parseStat([]byte(tt.stat))
		if got != tt.want || ok != tt.ok {
			t.Errorf("parseStat(%q) = %+v, %v", tt.stat, got, ok)
		}
	}
}

func TestTableHasThisProcess(t *testing.T) {
	t.Parallel()
	all, err := table()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(p process) bool { return p.pid == os.Getpid() })
	if i < 0 || all[i].parent != os.Getppid() || all[i].zombie {
		t.Errorf("entry %d of %d", i, len(all))
	}
}

func TestSelections(t *testing.T) {
	t.Parallel()
	all := []process{
		{pid: 1}, {pid: 2, parent: 1, session: 2}, {pid: 3, parent: 2, session: 3}, {pid: 4, parent: 3, session: 3},
		{pid: 5, parent: 2, session: 5}, {pid: 6, parent: 5, session: 5, zombie: true}, {pid: 7, parent: 6, session: 6},
		{pid: 8, parent: 0, session: 8},
	}
	if diff := cmp.Diff([]int{3, 4}, inSession(all, 3, 2)); diff != "" {
		t.Errorf("session: %s", diff)
	}
	if diff := cmp.Diff([]int{3, 5, 4, 7}, below(all, 2)); diff != "" {
		t.Errorf("descendants: %s", diff)
	}
	if diff := cmp.Diff([]int{3, 4, 5, 7, 8}, others(all, 2)); diff != "" {
		t.Errorf("namespace: %s", diff)
	}
	if got := below([]process{{pid: 2, parent: 2}, {pid: 3, parent: 2}}, 2); !slices.Contains(got, 3) {
		t.Errorf("loop: %v", got)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("12 (sh) S 1 12 11 34816 -1"))
	f.Fuzz(func(t *testing.T, stat []byte) {
		p, ok := parseStat(stat)
		if !ok && p != (process{}) {
			t.Errorf("parseStat(%q) = %+v, %v", stat, p, ok)
		}
	})
}
