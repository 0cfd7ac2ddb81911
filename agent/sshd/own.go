package sshd

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"dstack/protocol/jobssh"
)

// startProgram starts a program as it is: for dstack's own clients.
func (s *session) startProgram(payload []byte) error {
	if s.process != nil {
		return errLate
	}
	var want jobssh.Program
	if err := json.Unmarshal(payload, &want); err != nil {
		return fmt.Errorf("decode request: %w", err)
	}
	for _, v := range want.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" || strings.ContainsRune(v, 0) {
			return errVariable
		}
	}
	p := program{args: want.Args, env: override(s.environment(), want.Env), dir: s.dir(s.account.Dir, s.account.Home)}
	if want.Dir != "" {
		if !filepath.IsAbs(want.Dir) {
			want.Dir = filepath.Join(p.dir, want.Dir)
		}
		if p.dir = s.dir(want.Dir); p.dir != want.Dir {
			return s.refuse("the folder " + want.Dir + " is not there, or " + s.account.Name + " may not enter it")
		}
	}
	if len(p.args) == 0 {
		shell := s.shell()
		if shell == "" {
			return s.refuse("there is no shell in this image: name one of its programs")
		}
		p.args, p.path = []string{"-" + filepath.Base(shell)}, shell
	}
	process, err := s.run(p)
	if errors.Is(err, errRetired) {
		return s.refuse(errRetired.Error())
	}
	s.process = process
	return err
}

// sum tells the checksum of a file, with the rights of the session's user.
func (s *session) sum(payload []byte) error {
	if s.process != nil {
		return errLate
	}
	var f jobssh.File
	if err := json.Unmarshal(payload, &f); err != nil {
		return fmt.Errorf("decode request: %w", err)
	}
	if !filepath.IsAbs(f.Path) {
		f.Path = filepath.Join(s.dir(s.account.Home), f.Path)
	}
	p := newProcess(s)
	s.process = p
	s.wg.Go(func() {
		<-p.begin
		text, err := s.hash(f, p.gone)
		if err != nil {
			_, _ = fmt.Fprintln(s.channel.Stderr(), err)
			p.report(1)
			return
		}
		_, _ = io.WriteString(s.channel, text)
		p.report(0)
	})
	return nil
}

// hash reads a file until gone is closed.
func (s *session) hash(f jobssh.File, gone <-chan struct{}) (string, error) {
	var in *os.File
	err := s.asUser(func() (err error) {
		in, err = os.OpenFile(f.Path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe would wait for a writer
		return err
	})
	if err != nil {
		return "", err
	}
	defer in.Close() //nolint:errcheck // it was only read
	if info, err := in.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(fmt.Errorf("%s is no file", f.Path), err)
	}
	h := sha256.New()
	n, err := io.CopyN(h, untilGone{in, gone}, f.Length)
	if errors.Is(err, io.EOF) {
		return "", fmt.Errorf("%s has %d bytes only", f.Path, n)
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

// untilGone reads as long as somebody wants it.
type untilGone struct {
	in   io.Reader
	gone <-chan struct{}
}

func (r untilGone) Read(p []byte) (int, error) {
	select {
	case <-r.gone:
		return 0, errors.New("the client has gone away")
	default:
		return r.in.Read(p)
	}
}
