// Package exec starts a job on a pty of its own and ends it with all its
// processes.
package exec

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"dstack/agent/jobenv"
	"dstack/agent/reap"
)

// Command is what to start.
type Command struct {
	Args []string
	// Env is the whole environment, entries "NAME=value".
	Env []string
	// Dir is the working directory, absolute.
	Dir string
	// Credential is the user to become; nil stays who we are.
	Credential *syscall.Credential
}

// Job is a started command: the leader of a new session with a pty as its
// controlling terminal.
type Job struct {
	pid      int
	exit     <-chan syscall.WaitStatus
	terminal *Terminal
	slave    int // -1 once it is closed
}

// Start starts a command. It fails with [*StartError] if the command is to
// blame. Orphans of the job come to this process from then on; reaper
// collects them.
func Start(reaper *reap.Reaper, c Command) (*Job, error) {
	path, err := Find(c.Args[0], jobenv.Lookup(c.Env, "PATH"), c.Dir)
	if err != nil {
		return nil, err
	}
	// Whatever leaves the job's session stays below us, where KillAll finds it.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become subreaper: %w", err)
	}
	master, slave, err := openPTY()
	if err != nil {
		return nil, err
	}
	if c.Credential != nil {
		// The job's programs may open their terminal by name.
		if err := unix.Fchown(slave, int(c.Credential.Uid), -1); err != nil {
			return nil, errors.Join(fmt.Errorf("give the pty to the job's user: %w", err),
				master.file.Close(), unix.Close(slave))
		}
	}
	tty := uintptr(slave)
	pid, exit, err := reaper.Start(func() (int, error) {
		return syscall.ForkExec(path, c.Args, &syscall.ProcAttr{
			Dir:   c.Dir,
			Env:   c.Env,
			Files: []uintptr{tty, tty, tty},
			Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0, Credential: c.Credential},
		})
	})
	if err != nil {
		return nil, errors.Join(startFailure(c, path, err), master.file.Close(), unix.Close(slave))
	}
	return &Job{pid: pid, exit: exit, terminal: master, slave: slave}, nil
}

// startFailure tells a working directory that is not there from a command
// that cannot be executed; the system's error is the same.
func startFailure(c Command, path string, err error) error {
	if info, statErr := os.Stat(c.Dir); statErr != nil || !info.IsDir() {
		return fmt.Errorf("enter working dir %s: %w", c.Dir, err)
	}
	if errors.Is(err, syscall.EACCES) && c.Credential != nil {
		err = fmt.Errorf("permission denied: user %d must be able to execute it and to enter %s", c.Credential.Uid, c.Dir)
	}
	return Blame(c.Args[0], path, err)
}

// Output is what the job writes to its terminal.
func (j *Job) Output() *Terminal { return j.terminal }

// Exited gets the status of the job's main process once it has ended.
func (j *Job) Exited() <-chan syscall.WaitStatus { return j.exit }

// Release lets the output end once no process of the job has the terminal
// open any more. Until then it does not end, for a job may close its terminal
// and open it again.
func (j *Job) Release() error {
	if j.slave < 0 {
		return nil
	}
	fd := j.slave
	j.slave = -1
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close terminal: %w", err)
	}
	return nil
}

// Close closes the terminal; a Read of its output fails then.
func (j *Job) Close() error { return errors.Join(j.Release(), j.terminal.file.Close()) }

// Stop takes the job to a stage.
func (j *Job) Stop(stage Stage) error {
	switch stage {
	case None:
		return nil
	case Interrupt:
		return j.terminal.interrupt()
	case Hangup, Kill:
	}
	all, err := table()
	if err != nil {
		return err
	}
	pids := inSession(all, j.pid, os.Getpid())
	if stage == Kill {
		signalAll(pids, syscall.SIGKILL)
	} else {
		signalAll(pids, syscall.SIGHUP, syscall.SIGCONT)
	}
	return nil
}

// Warn sends TERM to every process of the job's session.
func (j *Job) Warn() error {
	all, err := table()
	if err != nil {
		return err
	}
	signalAll(inSession(all, j.pid, os.Getpid()), syscall.SIGTERM)
	return nil
}

// Alive says whether any process of the job's session lives.
func (j *Job) Alive() (bool, error) {
	all, err := table()
	return len(inSession(all, j.pid, os.Getpid())) > 0, err
}

// KillAll kills every process that the job left, also those that have left
// its session, and says how many there were. With wholeNamespace these are
// all processes but this one and process 1.
func (j *Job) KillAll(wholeNamespace bool) (int, error) {
	all, err := table()
	if err != nil {
		return 0, err
	}
	pids := append(inSession(all, j.pid, os.Getpid()), below(all, os.Getpid())...)
	if wholeNamespace {
		pids = others(all, os.Getpid())
	}
	signalAll(pids, syscall.SIGKILL)
	return len(pids), nil
}
