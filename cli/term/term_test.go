package term

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func screen(out io.Writer, columns, rows int) *Console {
	return &Console{Out: out, Err: out, TTY: true, Size: func() (int, int) { return columns, rows }}
}

func TestRenderFitsTheTerminal(t *testing.T) {
	t.Parallel()
	table := Table{
		Columns: []Column{{Title: "NAME"}, {Title: "RESOURCES", Wrap: true}, {Title: "STATUS"}},
		Rows: []Row{
			{Cells: []Cell{T("a-run-with-a-name"), T("cpu=x86:192 mem=1024GB disk=100GB gpu=H100:80GB:8"), T("running")}},
			{Cells: []Cell{T("b"), T(""), T("idle")}, Note: "10.0.0.5: something is wrong with this host and here is the long remedy for it"},
		},
	}
	tests := []struct {
		name    string
		columns int
		want    []string
	}{
		{"piped: nothing is cut", 0, []string{
			" NAME               RESOURCES                                          STATUS",
			" a-run-with-a-name  cpu=x86:192 mem=1024GB disk=100GB gpu=H100:80GB:8  running",
			" b                                                                     idle",
			"    10.0.0.5: something is wrong with this host and here is the long remedy for it",
		}},
		{"60 columns: the wrapping column gives way", 60, []string{
			" NAME               RESOURCES                        STATUS",
			" a-run-with-a-name  cpu=x86:192 mem=1024GB           running",
			"                    disk=100GB gpu=H100:80GB:8",
			" b                                                   idle",
			"    10.0.0.5: something is wrong with this host and here is",
			"    the long remedy for it",
		}},
		{"30 columns: the others are cut", 30, []string{
			" NAME       RESOURCES  STATUS",
			" a-run-wi…  cpu=x86:…  running",
			"            mem=1024…",
		}},
	}
	for _, tt := range tests {
		c := screen(nil, tt.columns, 50)
		c.TTY = tt.columns > 0
		got := strings.Split(c.Render(table), "\n")[:len(tt.want)]
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestPaint(t *testing.T) {
	t.Parallel()
	if got := (&Console{Color: true}).Paint(Red.With(Bold), "x"); got != "\x1b[38;5;204;1mx\x1b[0m" {
		t.Errorf("%q", got)
	}
	if got := (&Console{}).Paint(Red, "x"); got != "x" {
		t.Errorf("%q", got)
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"short":                     "short",
		"0123456789a":               "012345678…",
		"\x1b[1m0123456789a\x1b[0m": "\x1b[1m012345678…\x1b[0m",
		"\x1b[1m0123456789\x1b[0m":  "\x1b[1m0123456789\x1b[0m",
	} {
		if got := clip(line, 10); got != want {
			t.Errorf("clip(%q) = %q, want %q", line, got, want)
		}
	}
}

func TestLiveRedrawsOnChange(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	live := screen(&out, 40, 10).Live()
	live.Show("Launching...", " NAME\n a\n")
	if want := "⠋ Launching...\x1b[K\n NAME\x1b[K\n a\x1b[K\n\x1b[J"; out.String() != want {
		t.Errorf("first: %q", out.String())
	}
	out.Reset()
	live.Show("Launching...", " NAME\n a\n")
	if out.Len() > 0 {
		t.Errorf("nothing changed, yet %q was written", out.String())
	}
	live.Spin()
	if want := "\x1b[3A\r⠙ Launching...\x1b[K\n\n\n\x1b[J"; out.String() != want {
		t.Errorf("spin: %q", out.String())
	}
	out.Reset()
	live.Clear()
	live.Clear()
	live.Spin()
	if want := "\x1b[3A\r\x1b[J"; out.String() != want {
		t.Errorf("clear: %q", out.String())
	}
	out.Reset()
	live.Body(strings.Repeat("line\n", 30))
	if got := strings.Count(out.String(), "\n"); got != 9 {
		t.Errorf("30 lines on 10 rows: %d written", got)
	}
}

func TestLiveIsSilentInAPipe(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	live := (&Console{Out: &out}).Live()
	live.Show("Launching...", "body")
	live.Spin()
	live.Clear()
	if out.Len() > 0 {
		t.Errorf("%q", out.String())
	}
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		want     bool
		err      error
		asked    int
	}{
		{"yes", "Y\n", true, nil, 1},
		{"no", "n\n", false, nil, 1},
		{"again", "x\n\nyes\n", true, nil, 3},
		{"no line feed", "y", true, nil, 1},
		{"closed", "", false, ErrNoInput, 1},
	}
	for _, tt := range tests {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteString(tt.in); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		c := &Console{In: r, Out: &out}
		got, err := c.Confirm(t.Context(), "Sure?")
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
		if n := strings.Count(out.String(), "Sure? [y/n]: "); n != tt.asked {
			t.Errorf("%s: asked %d times", tt.name, n)
		}
		_ = r.Close()
	}
}

func TestAskLeavesTheRestForTheNextQuestion(t *testing.T) {
	t.Parallel()
	c := &Console{In: strings.NewReader("one\ntwo\n"), Out: io.Discard}
	for _, want := range []string{"one", "two"} {
		if got, err := c.Ask(t.Context(), "? "); got != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
}

func TestAskOnATerminalIsInterrupted(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Interrupts, context.CancelCauseFunc){
		"ctrl-c":  func(i *Interrupts, _ context.CancelCauseFunc) { i.Press() },
		"context": func(_ *Interrupts, cancel context.CancelCauseFunc) { cancel(ErrInterrupted) },
	} {
		master, tty, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		interrupts := NewInterrupts(cancel)
		asked := make(chan struct{})
		c := &Console{In: tty, Out: writerFunc(func(p []byte) (int, error) {
			if strings.Contains(string(p), "?") {
				close(asked)
			}
			return len(p), nil
		}), Interrupts: interrupts}
		done := make(chan error, 1)
		go func() {
			_, err := c.Ask(ctx, "Stop? ")
			done <- err
		}()
		<-asked
		end(interrupts, cancel)
		if err := <-done; !errors.Is(err, ErrInterrupted) {
			t.Errorf("%s: %v", name, err)
		}
		cancel(nil)
		_ = tty.Close()
		_ = master.Close()
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestInterruptsNest(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	i := NewInterrupts(cancel)
	outer, releaseOuter := i.Capture()
	inner, releaseInner := i.Capture()
	i.Press()
	<-inner
	releaseInner()
	i.Press()
	i.Press() // the first one was not taken yet
	<-outer
	releaseOuter()
	if ctx.Err() != nil {
		t.Fatal("captured, yet the command ended")
	}
	i.Press()
	if !errors.Is(context.Cause(ctx), ErrInterrupted) {
		t.Errorf("cause: %v", context.Cause(ctx))
	}
}
