package term

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/muesli/cancelreader"
	xterm "golang.org/x/term"
)

// Interactive says whether a person sits at both ends: menus need that.
func (c *Console) Interactive() bool {
	in, ok := c.In.(*os.File)
	return ok && c.TTY && xterm.IsTerminal(int(in.Fd()))
}

// Select shows a menu, moved through with the arrow keys, and gives the index
// of the item that Enter chose. The console must be interactive. It fails with
// [ErrNoInput], [ErrInterrupted] or the context's cause.
func (c *Console) Select(ctx context.Context, title string, items []string, current int) (int, error) {
	in, ok := c.In.(*os.File)
	if !ok || len(items) == 0 {
		return 0, ErrNoInput
	}
	before, err := xterm.MakeRaw(int(in.Fd()))
	if err != nil {
		return 0, fmt.Errorf("prepare the terminal for a menu: %w", err)
	}
	m := menu{console: c, title: title, items: items, current: max(current, 0)}
	err = m.run(ctx, in)
	m.erase()
	if restored := xterm.Restore(int(in.Fd()), before); restored != nil && err == nil {
		err = fmt.Errorf("restore the terminal: %w", restored)
	}
	if err != nil {
		return 0, err
	}
	c.Print(c.Paint(Bold, title) + " " + c.Paint(Code, items[m.current]))
	return m.current, nil
}

// menu is the state of one [Console.Select]. The terminal is raw: lines end
// with \r\n, and Ctrl-C is a character.
type menu struct {
	console *Console
	title   string
	items   []string
	current int
	drawn   int
}

func (m *menu) run(ctx context.Context, file *os.File) error {
	in, err := cancelreader.NewReader(file)
	if err != nil {
		return fmt.Errorf("read the keyboard: %w", err)
	}
	defer func() { _ = in.Close() }()
	type keys struct {
		text []byte
		err  error
	}
	pressed := make(chan keys)
	stopped := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			buf := make([]byte, 64)
			n, err := in.Read(buf)
			select {
			case pressed <- keys{buf[:n], err}:
			case <-stopped:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	defer func() {
		close(stopped)
		if in.Cancel() {
			<-ended
		}
	}()
	for {
		m.draw()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case k := <-pressed:
			if done, err := m.take(k.text); done || err != nil {
				return err
			}
			if errors.Is(k.err, io.EOF) {
				return ErrNoInput
			}
			if k.err != nil {
				return fmt.Errorf("read the keyboard: %w", k.err)
			}
		}
	}
}

// take handles what was typed; done means that Enter chose the current item.
func (m *menu) take(keys []byte) (done bool, err error) {
	for len(keys) > 0 {
		step, size := 0, 1
		switch {
		case bytes.HasPrefix(keys, []byte("\x1b[A")), bytes.HasPrefix(keys, []byte("\x1bOA")):
			step, size = -1, 3
		case bytes.HasPrefix(keys, []byte("\x1b[B")), bytes.HasPrefix(keys, []byte("\x1bOB")):
			step, size = 1, 3
		case keys[0] == 'k':
			step = -1
		case keys[0] == 'j':
			step = 1
		case keys[0] == '\r', keys[0] == '\n':
			return true, nil
		case keys[0] == 3: // Ctrl-C
			return false, ErrInterrupted
		case keys[0] == 4: // Ctrl-D
			return false, ErrNoInput
		}
		keys = keys[size:]
		m.current = (m.current + step + len(m.items)) % len(m.items)
	}
	return false, nil
}

func (m *menu) draw() {
	columns, rows := m.console.Size()
	first, shown := window(m.current, len(m.items), max(rows-2, 1))
	var b strings.Builder
	b.WriteString(m.up() + m.console.Paint(Bold, clip(m.title+" (↑↓ Enter)", columns)) + "\x1b[K\r\n")
	for i, item := range m.items[first : first+shown] {
		line, style := "  "+item, Plain
		if first+i == m.current {
			line, style = "» "+item, Code
		}
		b.WriteString(m.console.Paint(style, clip(line, columns)) + "\x1b[K\r\n")
	}
	_, _ = io.WriteString(m.console.Out, b.String())
	m.drawn = shown + 1
}

func (m *menu) up() string {
	if m.drawn == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\r", m.drawn)
}

func (m *menu) erase() { _, _ = io.WriteString(m.console.Out, m.up()+"\x1b[J") }

// window chooses which of n lines are shown where only room fit: those around
// the current one.
func window(current, n, room int) (first, shown int) {
	if n <= room {
		return 0, n
	}
	return min(max(current-room/2, 0), n-room), room
}
