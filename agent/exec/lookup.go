package exec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// defaultPath is where programs are sought if the job has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Exit statuses of a command that could not be started, as shells use them.
const (
	cannotExecute = 126
	notFound      = 127
)

// StartError is why a command did not start.
type StartError struct {
	// Status is the exit status to report: 127 if the command is not there,
	// 126 if it is but cannot be executed.
	Status  int
	Command string
	Err     error
}

func (e *StartError) Error() string { return fmt.Sprintf("%s: %v", e.Command, e.Err) }

func (e *StartError) Unwrap() error { return e.Err }

// Blame explains what the system said when path was executed for command.
func Blame(command, path string, err error) *StartError {
	_, statErr := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && statErr == nil:
		return &StartError{cannotExecute, command, errors.New(
			"its interpreter or dynamic loader is not in the image")}
	case errors.Is(err, fs.ErrNotExist):
		return &StartError{notFound, command, errors.New("no such file or directory")}
	case errors.Is(err, syscall.ENOEXEC):
		return &StartError{cannotExecute, command, errors.New(
			"neither a program for this machine's architecture nor a script that names its interpreter")}
	}
	return &StartError{cannotExecute, command, err}
}

// Find returns the path of command: itself if it has a slash, else the first
// executable of that name in the directories of path. Relative ones are
// taken from dir.
func Find(command, path, dir string) (string, error) {
	absolute := func(p string) string {
		if filepath.IsAbs(p) {
			return p
		}
		return filepath.Join(dir, p)
	}
	if strings.Contains(command, "/") {
		return absolute(command), nil
	}
	if path == "" {
		path = defaultPath
	}
	denied := false
	for _, folder := range filepath.SplitList(path) {
		candidate := filepath.Join(absolute(folder), command)
		info, err := os.Stat(candidate)
		if err != nil || info.IsDir() {
			continue
		}
		if info.Mode()&0o111 != 0 {
			return candidate, nil
		}
		denied = true
	}
	if denied {
		return "", &StartError{cannotExecute, command, errors.New("permission denied")}
	}
	return "", &StartError{notFound, command, errors.New("command not found")}
}
