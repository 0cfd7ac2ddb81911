package term

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/muesli/cancelreader"
)

// ErrNoInput says that a question found standard input closed.
var ErrNoInput = errors.New("standard input is closed")

// ErrInterrupted says that Ctrl-C was pressed.
var ErrInterrupted = errors.New("interrupted")

// Interrupts hands each Ctrl-C to whoever captured it last; without a
// captor it ends the command.
type Interrupts struct {
	mu     sync.Mutex
	captor []chan struct{}
	cancel context.CancelCauseFunc
}

// NewInterrupts makes an Interrupts that ends a command by cancel.
func NewInterrupts(cancel context.CancelCauseFunc) *Interrupts {
	return &Interrupts{cancel: cancel}
}

// Press delivers one Ctrl-C. A captor that has not yet taken the last one
// gets no second.
func (i *Interrupts) Press() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.captor) == 0 {
		i.cancel(ErrInterrupted)
		return
	}
	select {
	case i.captor[len(i.captor)-1] <- struct{}{}:
	default:
	}
}

// Capture takes Ctrl-C until release is called. Captures nest.
func (i *Interrupts) Capture() (pressed <-chan struct{}, release func()) {
	if i == nil {
		return nil, func() {}
	}
	ch := make(chan struct{}, 1)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.captor = append(i.captor, ch)
	return ch, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.captor = i.captor[:len(i.captor)-1]
	}
}

// Confirm asks a yes/no question. It fails with [ErrNoInput],
// [ErrInterrupted] or the context's cause.
func (c *Console) Confirm(ctx context.Context, question string) (bool, error) {
	for {
		answer, err := c.Ask(ctx, question+" [y/n]: ")
		if err != nil {
			return false, err
		}
		switch strings.ToLower(answer) {
		case "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		}
		c.Print("Please enter Y or N")
	}
}

// Ask writes a prompt and reads one line. It fails with [ErrNoInput],
// [ErrInterrupted] or the context's cause.
func (c *Console) Ask(ctx context.Context, prompt string) (string, error) {
	pressed, release := c.Interrupts.Capture()
	defer release()
	_, _ = fmt.Fprint(c.Out, prompt)

	in, err := cancelreader.NewReader(c.In)
	if err != nil { // a regular file or /dev/null can't be polled, and never blocks
		return readLine(c.In)
	}
	defer func() { _ = in.Close() }()
	type answer struct {
		line string
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		line, err := readLine(in)
		done <- answer{line, err}
	}()
	select {
	case a := <-done:
		if errors.Is(a.err, ErrNoInput) {
			c.Print("")
		}
		return a.line, a.err
	case <-pressed:
		err = ErrInterrupted
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if in.Cancel() {
		<-done
	}
	c.Print("")
	return "", err
}

// AskHidden asks as [Console.Ask] does, without showing what is typed. The
// console must be interactive.
func (c *Console) AskHidden(ctx context.Context, prompt string) (string, error) {
	in, ok := c.In.(*os.File)
	if !ok {
		return "", ErrNoInput
	}
	show, err := hideInput(int(in.Fd()))
	if err != nil {
		return "", fmt.Errorf("hide what is typed: %w", err)
	}
	defer show()
	answer, err := c.Ask(ctx, prompt)
	c.Print("")
	return answer, err
}

// readLine reads byte by byte, so that nothing behind the line is taken from
// a later question.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for one := make([]byte, 1); ; {
		n, err := r.Read(one)
		if n == 1 {
			if one[0] == '\n' {
				return strings.TrimSpace(string(line)), nil
			}
			line = append(line, one[0])
		}
		switch {
		case errors.Is(err, io.EOF) && len(line) > 0:
			return strings.TrimSpace(string(line)), nil
		case errors.Is(err, io.EOF):
			return "", ErrNoInput
		case err != nil:
			return "", fmt.Errorf("read the answer: %w", err)
		}
	}
}
