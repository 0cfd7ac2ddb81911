// Package agentlink reads what an agent leaves in its task's folder and talks
// to it over the socket there. The folder is hostile: root in the container
// wrote it. So files are opened below it only, only if they are regular, never
// through a symbolic link, and never read beyond a bound; what comes over the
// socket is bounded, too.
package agentlink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

// MaxStatus bounds a state file and one line of events in bytes.
const MaxStatus = 64 << 10

// ErrUnsafe says that a name in the folder is not what an agent makes.
var ErrUnsafe = errors.New("not what an agent writes")

// Folder is the folder that shim and agent share.
type Folder struct {
	root *os.Root
}

// OpenFolder opens the folder at path, which the shim made.
func OpenFolder(path string) (*Folder, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open task folder: %w", err)
	}
	return &Folder{root: root}, nil
}

// Close closes the folder; open files stay open.
func (f *Folder) Close() error { return f.root.Close() }

// open opens a regular file for reading. The name may be swapped while we
// look, so what was opened is compared with what was judged.
func (f *Folder) open(name string) (*os.File, os.FileInfo, error) {
	seen, err := f.root.Lstat(name)
	if err != nil {
		return nil, nil, fmt.Errorf("look at %s: %w", name, err)
	}
	if !seen.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is a %s: %w", name, seen.Mode().Type(), ErrUnsafe)
	}
	// O_NONBLOCK: a pipe that was put there meanwhile must not hold us.
	file, err := f.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", name, err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("stat %s: %w", name, err), file.Close())
	}
	if !info.Mode().IsRegular() || !os.SameFile(seen, info) {
		return nil, nil, errors.Join(fmt.Errorf("%s was swapped: %w", name, ErrUnsafe), file.Close())
	}
	return file, info, nil
}

// WriteSpec writes the job for the agent to read, owned by uid if that is
// not 0. It is called before the workload is started.
func (f *Folder) WriteSpec(job jobapi.Spec, uid int) (err error) {
	data, err := json.Marshal(job)
	if err != nil {
		return fmt.Errorf("encode job: %w", err)
	}
	if err := f.root.Remove(jobapi.SpecFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old job file: %w", err)
	}
	file, err := f.root.OpenFile(jobapi.SpecFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create job file: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Write(data); err != nil {
		return fmt.Errorf("write job file: %w", err)
	}
	if uid != 0 {
		if err := file.Chown(uid, uid); err != nil {
			return fmt.Errorf("hand over job file: %w", err)
		}
	}
	return nil
}

// HasSpec says whether the job file is still there: the agent removes it when
// it starts, so while it is there nothing of the job has run.
func (f *Folder) HasSpec() bool {
	_, err := f.root.Lstat(jobapi.SpecFile)
	return err == nil
}

// Outcome reads the final status that the agent left; nil if it left none
// that can be believed.
func (f *Folder) Outcome() *jobapi.Status {
	file, _, err := f.open(jobapi.StateFile)
	if err != nil {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(file, MaxStatus+1))
	if errors.Join(err, file.Close()) != nil || len(data) > MaxStatus {
		return nil
	}
	s, err := parseStatus(data)
	if err != nil || !s.State.Ended() {
		return nil
	}
	return s
}

// Diagnostics is the beginning of the agent's own log, empty if there is none
// that can be read. Bytes that are no text are replaced.
func (f *Folder) Diagnostics() string {
	file, _, err := f.open(jobapi.DiagnosticsLog)
	if err != nil {
		return ""
	}
	data, err := io.ReadAll(io.LimitReader(file, hostapi.MaxDiagnostics))
	if errors.Join(err, file.Close()) != nil {
		return ""
	}
	text := strings.ToValidUTF8(string(data), "?")
	return text[:min(len(text), hostapi.MaxDiagnostics)]
}

// maxText bounds each text of a status, in bytes.
const maxText = 4096

func parseStatus(data []byte) (*jobapi.Status, error) {
	var s jobapi.Status
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("decode status: %w", err)
	}
	return &s, checkStatus(&s)
}

// checkStatus cuts what is too long and refuses what makes no sense.
func checkStatus(s *jobapi.Status) error {
	switch s.State {
	case jobapi.Starting, jobapi.Running, jobapi.Done, jobapi.Failed, jobapi.Terminated:
	default:
		return fmt.Errorf("state %.40q: %w", s.State, ErrUnsafe)
	}
	if s.SSHPort < 0 || s.SSHPort > 65535 {
		return fmt.Errorf("port %d: %w", s.SSHPort, ErrUnsafe)
	}
	if s.ExitStatus != nil && (*s.ExitStatus < -1 || *s.ExitStatus > 255) {
		return fmt.Errorf("exit status %d: %w", *s.ExitStatus, ErrUnsafe)
	}
	for _, text := range []*string{&s.Reason, &s.Message, &s.Username, &s.WorkingDir} {
		*text = (*text)[:min(len(*text), maxText)]
	}
	return nil
}
