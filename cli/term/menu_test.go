package term

import (
	"errors"
	"testing"
)

func TestMenuKeys(t *testing.T) {
	t.Parallel()
	tests := []struct {
		keys string
		from int
		want int
		done bool
		err  error
	}{
		{"", 1, 1, false, nil},
		{"\x1b[B", 0, 1, false, nil},
		{"\x1b[A", 0, 2, false, nil},
		{"\x1bOB\x1bOB\r", 0, 2, true, nil},
		{"jjk\n", 0, 1, true, nil},
		{"\x1b[B\x1b[B\x1b[B", 0, 0, false, nil},
		{"x\x1b[C?", 1, 1, false, nil},
		{"j\x03", 0, 1, false, ErrInterrupted},
		{"\x04", 0, 0, false, ErrNoInput},
	}
	for _, tt := range tests {
		m := menu{items: []string{"a", "b", "c"}, current: tt.from}
		done, err := m.take([]byte(tt.keys))
		if done != tt.done || !errors.Is(err, tt.err) || m.current != tt.want {
			t.Errorf("%q from %d: item %d, done %v, %v; want %d, %v, %v", tt.keys, tt.from, m.current, done, err, tt.want, tt.done, tt.err)
		}
	}
}

func TestMenuWindow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ current, n, room, first, shown int }{
		{0, 3, 5, 0, 3}, {0, 10, 4, 0, 4}, {5, 10, 4, 3, 4}, {9, 10, 4, 6, 4},
	} {
		if first, shown := window(tt.current, tt.n, tt.room); first != tt.first || shown != tt.shown {
			t.Errorf("window(%d, %d, %d) = %d, %d", tt.current, tt.n, tt.room, first, shown)
		}
	}
}
