// Package remote runs a program in a job over SSH, with or without a terminal.
package remote

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"dstack/protocol/jobssh"
	"dstack/protocol/words"
)

// Terminal is the user's, in raw mode.
type Terminal struct {
	// Name is its kind: the variable TERM.
	Name string
	// Size gives its columns and rows.
	Size func() (columns, rows int)
	// Resized tells that they changed.
	Resized <-chan struct{}
}

// Command is what to run, and what it is connected to.
type Command struct {
	jobssh.Program

	// Terminal, if set, is what the program sees; Stderr is then unused.
	Terminal *Terminal
	// Stdin is read until it or the program ends. Nil is the empty input.
	Stdin          Input
	Stdout, Stderr io.Writer
	// Signals are names without SIG, such as INT, to pass on.
	Signals <-chan string
}

// Input is what a program reads. Cancel ends a read that waits, and says
// whether it could.
type Input interface {
	io.Reader
	Cancel() bool
}

// errCut says that the connection ended before the program.
var errCut = errors.New("the connection to the job was lost before the command had ended")

// IsLost says whether a run failed because the connection was lost: the
// program may go on.
func IsLost(err error) bool { return errors.Is(err, errCut) }

// Run runs a program and returns its exit status; 128 + n stands for the end
// by signal n. When ctx ends the program gets TERM and a moment,
// and Run returns.
func Run(ctx context.Context, conn *ssh.Client, c Command) (int, error) {
	channel, requests, err := conn.OpenChannel("session", nil)
	if err != nil {
		return 0, fmt.Errorf("start command: %w", errors.Join(errCut, err))
	}
	defer channel.Close() //nolint:errcheck // the other side has closed it mostly
	if err := start(channel, c); err != nil {
		return 0, err
	}
	var output sync.WaitGroup
	var lost [2]error
	output.Go(func() { lost[0] = drain(c.Stdout, channel) })
	output.Go(func() { lost[1] = drain(c.Stderr, channel.Stderr()) })
	if c.Stdin == nil {
		_ = channel.CloseWrite() // what ends the program's input may come too late
	}
	poured := make(chan struct{})
	go func() {
		defer close(poured)
		if c.Stdin != nil {
			pour(channel, c.Stdin)
		}
	}()
	ended := make(chan struct{})
	var control sync.WaitGroup
	control.Go(func() { c.control(ctx, channel, ended) })
	status, known := await(requests)
	close(ended)
	output.Wait()
	control.Wait()
	_ = channel.Close() // what is still written fails
	if c.Stdin == nil || c.Stdin.Cancel() {
		<-poured
	}
	switch {
	case ctx.Err() != nil:
		return status, context.Cause(ctx)
	case errors.Join(lost[:]...) != nil:
		return status, fmt.Errorf("write the command's output: %w", errors.Join(lost[:]...))
	case !known:
		return status, errCut
	}
	return status, nil
}

// start asks for the terminal and the program.
func start(channel ssh.Channel, c Command) error {
	if t := c.Terminal; t != nil {
		columns, rows := t.Size()
		ok, err := channel.SendRequest("pty-req", true, ssh.Marshal(ptyRequest{
			Term: t.Name, Columns: uint32(columns), Rows: uint32(rows), Modes: modes,
		}))
		if err != nil || !ok {
			return errors.Join(errors.New("the job gives no terminal"), err)
		}
	}
	payload, err := json.Marshal(c.Program)
	if err != nil {
		return fmt.Errorf("start command: %w", err)
	}
	ok, err := channel.SendRequest(jobssh.Exec, true, payload)
	if err == nil && !ok { // another server than dstack's
		if line := Line(c.Program); line == "" {
			ok, err = channel.SendRequest("shell", true, nil)
		} else {
			ok, err = channel.SendRequest("exec", true, ssh.Marshal(execRequest{line}))
		}
	}
	if err != nil {
		return fmt.Errorf("start command: %w", errors.Join(errCut, err))
	}
	if !ok {
		return errors.New("the job refuses to start the command")
	}
	return nil
}

// Line is a program as a line for a POSIX shell; empty means a login shell.
func Line(p jobssh.Program) string {
	if len(p.Args) == 0 && p.Dir == "" && len(p.Env) == 0 {
		return ""
	}
	var line strings.Builder
	for _, v := range p.Env {
		name, value, _ := strings.Cut(v, "=")
		line.WriteString("export " + name + "=" + words.Quote(value) + "; ")
	}
	if p.Dir != "" {
		line.WriteString("cd " + words.Quote(p.Dir) + " && ")
	}
	line.WriteString("exec")
	if len(p.Args) == 0 {
		line.WriteString(` "${SHELL:-/bin/sh}" -l`)
	}
	for _, arg := range p.Args {
		line.WriteString(" " + words.Quote(arg))
	}
	return line.String()
}

// termPatience is how long a program may take to end after TERM.
const termPatience = 2 * time.Second

// control passes on signals and sizes until the program or ctx ends.
func (c Command) control(ctx context.Context, channel ssh.Channel, ended <-chan struct{}) {
	var resized <-chan struct{}
	if c.Terminal != nil {
		resized = c.Terminal.Resized
	}
	for {
		select {
		case <-ended:
			return
		case <-ctx.Done():
			// It may want to say something before it ends.
			impatient := time.AfterFunc(termPatience, func() { _ = channel.Close() })
			defer impatient.Stop()
			_, _ = channel.SendRequest("signal", false, ssh.Marshal(signalRequest{"TERM"}))
			<-ended
			return
		case name, ok := <-c.Signals:
			if !ok {
				c.Signals = nil
				continue
			}
			_, _ = channel.SendRequest("signal", false, ssh.Marshal(signalRequest{name}))
		case <-resized:
			columns, rows := c.Terminal.Size()
			_, _ = channel.SendRequest("window-change", false, ssh.Marshal(windowChange{Columns: uint32(columns), Rows: uint32(rows)}))
		}
	}
}

// await answers requests until the channel ends, and reads the exit status.
func await(requests <-chan *ssh.Request) (status int, known bool) {
	for r := range requests {
		switch r.Type {
		case "exit-status":
			if len(r.Payload) == 4 {
				status, known = int(binary.BigEndian.Uint32(r.Payload)), true
			}
		case "exit-signal":
			var s exitSignal
			if ssh.Unmarshal(r.Payload, &s) == nil {
				status, known = 128+signalNumber(s.Name), true
			}
		}
		if r.WantReply {
			_ = r.Reply(false, nil) // fails with the connection only
		}
	}
	return status, known
}

// drain copies output. What can't be written is read all the same, or the
// program would wait for ever.
func drain(to io.Writer, from io.Reader) error {
	if to == nil {
		to = io.Discard
	}
	_, err := io.Copy(to, from)
	if err != nil {
		_, _ = io.Copy(io.Discard, from)
	}
	return err
}

// pour copies input, and passes its end on.
func pour(to ssh.Channel, from io.Reader) {
	_, _ = io.Copy(to, from) // fails when the program has ended
	_ = to.CloseWrite()
}

// Payloads of RFC 4254, 6.
type (
	ptyRequest struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	windowChange  struct{ Columns, Rows, Width, Height uint32 }
	execRequest   struct{ Line string }
	signalRequest struct{ Name string }
	exitSignal    struct {
		Name           string
		CoreDumped     bool
		Text, Language string
	}
)

// modes of a new terminal: as the system of the job has them.
const modes = "\x00"

// signalNumber is that of Linux, where jobs run; 0 for others.
func signalNumber(name string) int {
	return map[string]int{
		"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
	}[name]
}
