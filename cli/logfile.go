package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// keptLogs is how many log files of earlier days stay.
const keptLogs = 7

// logFile is the log of the command line, ~/.dstack/logs/cli/latest.log. It
// is opened by the first line that is written, so that a command with
// nothing to tell touches no file.
type logFile struct {
	path    string
	now     func() time.Time
	warn    func(string)
	secrets []string
	logger  zerolog.Logger
	file    *os.File
	broken  bool
}

func newLogFile(home string, now func() time.Time, warn func(string)) *logFile {
	l := &logFile{path: filepath.Join(home, ".dstack", "logs", "cli", "latest.log"), now: now, warn: warn}
	l.logger = zerolog.New(l).With().Timestamp().Logger()
	return l
}

// redact keeps a secret out of the log.
func (l *logFile) redact(secret string) {
	if secret != "" {
		l.secrets = append(l.secrets, secret)
	}
}

// Write appends a line. A log that can't be written is told once and never
// stops a command.
func (l *logFile) Write(line []byte) (int, error) {
	if l.broken {
		return len(line), nil
	}
	text := string(line)
	for _, secret := range l.secrets {
		text = strings.ReplaceAll(text, secret, "***")
	}
	err := l.open()
	if err == nil {
		_, err = l.file.WriteString(text)
	}
	if err != nil {
		l.broken = true
		l.warn(fmt.Sprintf("Couldn't write to %s: %v", l.path, errors.Unwrap(err)))
	}
	return len(line), nil
}

func (l *logFile) open() error {
	if l.file != nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return fmt.Errorf("create log folder: %w", err)
	}
	if err := l.rotate(); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	l.file = f
	return nil
}

// rotate renames the log of an earlier day and removes the oldest ones.
func (l *logFile) rotate() error {
	info, err := os.Stat(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at log: %w", err)
	}
	const layout = "2006-01-02"
	day := info.ModTime().UTC().Format(layout)
	if day >= l.now().UTC().Format(layout) {
		return nil
	}
	if err := os.Rename(l.path, filepath.Join(filepath.Dir(l.path), day+".log")); err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(filepath.Dir(l.path), "????-??-??*.log"))
	if err != nil {
		return fmt.Errorf("list logs: %w", err)
	}
	slices.Sort(old)
	for len(old) > keptLogs {
		if err := os.Remove(old[0]); err != nil {
			return fmt.Errorf("remove old log: %w", err)
		}
		old = old[1:]
	}
	return nil
}

func (l *logFile) close() error {
	if l.file == nil {
		return nil
	}
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}
