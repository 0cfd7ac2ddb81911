package sshd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"dstack/agent/jobenv"
	"dstack/agent/pty"
	"dstack/protocol/jobssh"
	"dstack/protocol/words"
)

// session is a channel in which one program runs.
type session struct {
	*connection
	channel ssh.Channel

	variables []string  // that the client has set
	terminal  *terminal // that the client wants, nil for none
	process   *process  // nil before the start
}

var (
	errLate    = errors.New("the program was started already")
	errEarly   = errors.New("no program was started")
	errUnknown = errors.New("unknown request")
	errRetired = errors.New("the job has ended")
)

// session serves a session to its end.
func (c *connection) session(ctx context.Context, offer ssh.NewChannel) error {
	channel, requests, err := offer.Accept()
	if err != nil {
		return err
	}
	s := &session{connection: c, channel: channel}
	for r := range requests {
		err := s.request(ctx, r)
		if err != nil {
			c.log.Debug().Err(err).Str("type", r.Type).Msg("ssh session request refused")
		}
		if r.WantReply {
			_ = r.Reply(err == nil, nil) // fails with the connection only
		}
		if s.process != nil {
			s.process.proceed() // its output comes after the reply
		}
	}
	if s.process != nil {
		s.process.hangUp()
	}
	_ = channel.Close() // the client has closed it
	return nil
}

func (s *session) request(ctx context.Context, r *ssh.Request) error {
	switch r.Type {
	case "env", "pty-req", "auth-agent-req@openssh.com":
		if s.process != nil {
			return errLate
		}
		return s.prepare(ctx, r)
	case "shell":
		return s.start("", false)
	case "exec", "subsystem":
		command, err := decode[text](r.Payload)
		switch {
		case err != nil:
			return err
		case r.Type == "exec":
			return s.start(command.Text, false)
		case command.Text == "sftp":
			return s.start("", true)
		}
		return fmt.Errorf("no subsystem %q", command.Text)
	case jobssh.Exec:
		return s.startProgram(r.Payload)
	case jobssh.Sum:
		return s.sum(r.Payload)
	case "signal", "window-change":
		if s.process == nil {
			return errEarly
		}
		return s.control(r)
	}
	return errUnknown
}

// prepare takes what a client says about the program that it will start.
func (s *session) prepare(ctx context.Context, r *ssh.Request) error {
	switch r.Type {
	case "env":
		v, err := decode[setVariable](r.Payload)
		if err == nil {
			err = v.accept()
		}
		if err == nil && len(s.variables) >= maxVariables {
			err = errVariable
		}
		if err == nil {
			s.variables = append(s.variables, v.Name+"="+v.Value)
		}
		return err
	case "pty-req":
		t, err := decode[terminal](r.Payload)
		if err == nil && strings.ContainsRune(t.Term, 0) {
			err = errVariable
		}
		if err == nil {
			s.terminal = &t
		}
		return err
	}
	return s.forwardAgent(ctx)
}

// control does what a client asks of a running program.
func (s *session) control(r *ssh.Request) error {
	if r.Type == "window-change" {
		w, err := decode[windowChange](r.Payload)
		if err != nil || s.process.terminal == nil {
			return errors.Join(err, errUnknown)
		}
		return pty.Resize(s.process.terminal, w.size())
	}
	name, err := decode[text](r.Payload)
	if err != nil {
		return err
	}
	signal, ok := signals[name.Text]
	if !ok {
		return fmt.Errorf("no signal %q", name.Text)
	}
	return s.process.signal(signal)
}

// start starts a command line, a login shell if it is empty, or the SFTP server.
func (s *session) start(line string, sftp bool) error {
	if s.process != nil {
		return errLate
	}
	env := s.environment()
	p := program{env: env, dir: s.dir(s.account.Home)}
	switch shell := s.shell(); {
	case sftp:
		p.args = s.server.cfg.SFTP
	case line == "" && shell != "":
		p.args, p.path = []string{"-" + filepath.Base(shell)}, shell
		p.dir = s.dir(s.account.Dir, s.account.Home)
	case line == "":
		return s.refuse("there is no shell in this image: run one of its programs (ssh HOST PROGRAM), copy files with sftp, or forward ports")
	case shell != "":
		p.args, p.path = []string{filepath.Base(shell), "-c", line}, shell
	default: // as far as it goes without
		args, err := words.Split(line)
		if err != nil || len(args) == 0 {
			return s.refuse("there is no shell in this image to understand the command: " + line)
		}
		p.args = args
	}
	process, err := s.run(p)
	if errors.Is(err, errRetired) {
		return s.refuse(errRetired.Error())
	}
	s.process = process
	return err
}

// refuse ends the session like a program that could not be found.
func (s *session) refuse(why string) error {
	p := newProcess(s)
	s.process = p
	s.wg.Go(func() {
		<-p.begin
		_, _ = fmt.Fprintf(s.channel.Stderr(), "dstack: %s\r\n", why)
		p.report(notFound)
	})
	return nil
}

// shell is the user's shell, else the system's, else none.
func (s *session) shell() string {
	for _, path := range []string{s.account.Shell, "/bin/sh"} {
		if info, err := os.Stat(path); path != "" && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// dir is the first of some folders that the user can enter, else the root.
func (s *session) dir(choice ...string) string {
	for _, dir := range choice {
		if dir != "" && s.asUser(func() error { return unix.Faccessat(unix.AT_FDCWD, dir, unix.X_OK, unix.AT_EACCESS) }) == nil {
			return dir
		}
	}
	return "/"
}

// environment is that of the session's program. What belongs to another
// shell is left out.
func (s *session) environment() []string {
	env := slices.DeleteFunc(slices.Clone(s.account.Env), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"PWD", "OLDPWD", "SHLVL", "_"}, name)
	})
	set := func(list ...string) { env = override(env, list) }
	if jobenv.Lookup(env, "PATH") == "" {
		set("PATH=" + defaultPath)
	}
	client, clientPort := hostPort(s.client.RemoteAddr())
	server, serverPort := hostPort(s.client.LocalAddr())
	set(
		"USER="+s.account.Name, "LOGNAME="+s.account.Name, "HOME="+s.account.Home, "SHELL="+s.shell(),
		fmt.Sprintf("SSH_CLIENT=%s %s %s", client, clientPort, serverPort),
		fmt.Sprintf("SSH_CONNECTION=%s %s %s %s", client, clientPort, server, serverPort),
	)
	set(s.variables...)
	if s.terminal != nil {
		set("TERM=" + s.terminal.Term)
	}
	if path := s.agentSocket(); path != "" {
		set("SSH_AUTH_SOCK=" + path)
	}
	return env
}

// override sets variables in an environment.
func override(env, list []string) []string {
	for _, v := range list {
		name, _, _ := strings.Cut(v, "=")
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		env = append(env, v)
	}
	return env
}
