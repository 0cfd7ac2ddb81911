package sshd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"dstack/agent/become"
	"dstack/agent/exec"
	"dstack/agent/jobenv"
	"dstack/agent/pty"
)

// defaultPath is where programs are sought if the job has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// notFound is the exit status of a program that is not there.
const notFound = 127

// program is what to start.
type program struct {
	args []string
	path string // of the program; empty means to seek args[0]
	env  []string
	dir  string
}

// process is a started program.
type process struct {
	session *session
	pid     int // 0 if nothing could be started
	exit    <-chan syscall.WaitStatus
	// begin is closed when the client knows that it was started, gone when
	// there is no client any more.
	begin, gone chan struct{}
	beginOnce   sync.Once
	ended       atomic.Bool
	// terminal is the master of its terminal, nil if it has none; else it has
	// three pipes.
	terminal       *os.File
	stdin          *os.File
	stdout, stderr *os.File
}

func newProcess(s *session) *process {
	return &process{session: s, begin: make(chan struct{}), gone: make(chan struct{})}
}

// run starts a program in the session and sees to it that what it writes and
// how it ends is told to the client.
func (s *session) run(prog program) (*process, error) {
	p := newProcess(s)
	theirs, err := p.openFiles()
	if err != nil {
		return nil, err
	}
	err = p.fork(prog, theirs)
	theirs.close()
	var blame *exec.StartError
	if errors.As(err, &blame) {
		p.closeFiles()
		if e := s.refuse(blame.Error()); e != nil {
			return nil, e
		}
		return s.process, nil
	}
	if err != nil {
		p.closeFiles()
		return nil, err
	}
	s.wg.Go(p.follow)
	return p, nil
}

// ends are the program's ends of its files.
type ends struct{ stdin, stdout, stderr *os.File }

func (e ends) close() {
	for _, f := range []*os.File{e.stdin, e.stdout, e.stderr} {
		if f != nil {
			_ = f.Close() // a second time for a terminal
		}
	}
}

func (p *process) openFiles() (ends, error) {
	if t := p.session.terminal; t != nil {
		return p.openTerminal(t)
	}
	var theirs ends
	var errs [3]error
	theirs.stdin, p.stdin, errs[0] = os.Pipe()
	p.stdout, theirs.stdout, errs[1] = os.Pipe()
	p.stderr, theirs.stderr, errs[2] = os.Pipe()
	if err := errors.Join(errs[:]...); err != nil {
		theirs.close()
		p.closeFiles()
		return ends{}, fmt.Errorf("make pipes: %w", err)
	}
	return theirs, nil
}

func (p *process) openTerminal(t *terminal) (ends, error) {
	master, fd, err := pty.Open()
	if err != nil {
		return ends{}, err
	}
	slave := os.NewFile(uintptr(fd), "terminal")
	size := windowChange{t.Columns, t.Rows, t.Width, t.Height}.size()
	err = errors.Join(
		pty.Change(master, func(settings *unix.Termios) { applyModes(settings, t.Modes) }),
		pty.Resize(master, size),
	)
	if c := p.session.account.Credential; c != nil {
		err = errors.Join(err, slave.Chown(int(c.Uid), -1)) // programs open their terminal by name
	}
	if err != nil {
		return ends{}, errors.Join(err, master.Close(), slave.Close())
	}
	p.terminal = master
	return ends{slave, slave, slave}, nil
}

func (p *process) closeFiles() {
	for _, f := range []*os.File{p.terminal, p.stdin, p.stdout, p.stderr} {
		if f != nil {
			_ = f.Close() // may have been closed before
		}
	}
}

// fork starts the program, unless the server has retired.
func (p *process) fork(prog program, files ends) error {
	server := p.session.server
	server.starting.RLock()
	defer server.starting.RUnlock()
	if server.retired {
		return errRetired
	}
	path := prog.path
	if path == "" {
		var err error
		if path, err = exec.Find(prog.args[0], jobenv.Lookup(prog.env, "PATH"), prog.dir); err != nil {
			return err
		}
	}
	if p.terminal != nil {
		if name, err := pty.Name(p.terminal); err == nil {
			prog.env = append(prog.env, "SSH_TTY="+name)
		}
	}
	attr := &syscall.ProcAttr{
		Dir: prog.dir, Env: prog.env,
		Files: []uintptr{files.stdin.Fd(), files.stdout.Fd(), files.stderr.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: p.terminal != nil, Credential: p.session.account.Credential},
	}
	var err error
	p.pid, p.exit, err = server.cfg.Reaper.Start(func() (int, error) { return syscall.ForkExec(path, prog.args, attr) })
	if err != nil {
		return exec.Blame(prog.args[0], path, err)
	}
	return nil
}

// proceed lets the program's output go to the client.
func (p *process) proceed() { p.beginOnce.Do(func() { close(p.begin) }) }

// follow copies the program's files, and tells how it ended.
func (p *process) follow() {
	<-p.begin
	channel := p.session.channel
	var out sync.WaitGroup
	if p.terminal != nil {
		p.session.wg.Go(func() { _ = pour(p.terminal, channel) })
		out.Go(func() { drainTerminal(channel, p.terminal) })
	} else {
		p.session.wg.Go(func() {
			_ = pour(p.stdin, channel)
			_ = p.stdin.Close()
		})
		out.Go(func() { drain(channel, p.stdout) })
		out.Go(func() { drain(channel.Stderr(), p.stderr) })
	}
	var status syscall.WaitStatus
	select {
	case status = <-p.exit:
		p.ended.Store(true)
		if p.terminal != nil {
			_ = p.terminal.SetReadDeadline(time.Unix(1, 0)) // fails when it is closed
		}
	case <-p.gone: // it may go on for ever
	}
	out.Wait()
	if status.Signaled() {
		_, _ = channel.SendRequest("exit-signal", false, ssh.Marshal(exitSignal{
			Name: signalName(status.Signal()), CoreDumped: status.CoreDump(),
		}))
		_ = channel.Close()
	} else {
		p.report(status.ExitStatus())
	}
	p.closeFiles()
}

// report tells the client the exit status and ends the session: in this
// order, for a client closes the channel when it sees the end of the output.
func (p *process) report(status int) {
	channel := p.session.channel
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(exitStatus{uint32(status)}))
	_ = channel.Close()
}

// drain copies output until nobody writes any more, or nobody reads.
func drain(to io.Writer, from *os.File) {
	_ = pour(to, from) // a terminal ends with an error
	_ = from.Close()   // who goes on to write shall know
}

// maxRest is more than what a terminal holds of output that was not read yet.
const maxRest = 256 << 10

// drainTerminal is drain until the program has ended, which the deadline for
// reading tells, and of what was written until then: as in OpenSSH, a login is
// over although jobs in its background have the terminal open.
func drainTerminal(to io.Writer, from *os.File) {
	if err := pour(to, from); errors.Is(err, os.ErrDeadlineExceeded) {
		if rest, err := pty.Buffered(from, maxRest); err == nil {
			_, _ = to.Write(rest) // fails with the connection only
		}
	}
	_ = from.Close() // as in drain
}

// signal signals the program and what it started.
func (p *process) signal(s syscall.Signal) error {
	if p.pid == 0 || p.ended.Load() {
		return errEnded
	}
	return syscall.Kill(-p.pid, s)
}

// hangUp is what happens when the client goes away: a program on a terminal
// gets HUP from the system, one without is left alone but for its files.
func (p *process) hangUp() {
	p.proceed()
	close(p.gone)
	p.closeFiles()
}

// asUser does something with the rights of the session's user.
func (c *connection) asUser(f func() error) error { return become.Do(c.account.Credential, f) }

func hostPort(a net.Addr) (host, port string) {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String(), "0"
	}
	return host, port
}
