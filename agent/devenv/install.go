package devenv

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"dstack/agent/unpack"
	"dstack/protocol/jobapi"
)

// Limits of an installation. An editor installs its server itself when it
// connects, so a job does not wait long for ours.
const (
	connectLimit    = 10 * time.Second
	stallLimit      = 30 * time.Second
	downloadLimit   = 10 * time.Minute
	extensionsLimit = 3 * time.Minute
)

// installer installs the server of an editor for the user that it runs as.
type installer struct {
	out    io.Writer
	client *http.Client
	// home is the user's, arch the machine's as the editors name it.
	home, arch string
	// stall is after how long without a byte a download is given up.
	stall time.Duration
}

func newInstaller(out io.Writer) *installer {
	arch := "x64"
	if runtime.GOARCH == "arm64" {
		arch = "arm64"
	}
	return &installer{out: out, client: newClient(), home: os.Getenv("HOME"), arch: arch, stall: stallLimit}
}

func (i *installer) sayf(format string, args ...any) {
	_, _ = fmt.Fprintf(i.out, format+"\n", args...) // the log of the job; nowhere to say that it failed
}

// install brings the server of an editor into its place, and its extensions.
// What fails is said in one line: the environment is there without.
func (i *installer) install(ctx context.Context, editor string, s jobapi.EditorServer) {
	folder, err := i.folder(s.Folder)
	if err == nil && isFile(filepath.Join(folder, s.Program)) {
		return // kept from an earlier run, in a volume
	}
	if err == nil {
		i.sayf("Installing the %s server...", editor)
		err = i.download(ctx, strings.ReplaceAll(s.URL, jobapi.EditorArch, i.arch), folder)
	}
	if err == nil && !isFile(filepath.Join(folder, s.Program)) {
		err = fmt.Errorf("what was downloaded has no %s", s.Program)
	}
	if err != nil {
		i.sayf("The %s server was not installed (%v). %s installs it when it connects.", editor, err, editor)
		return
	}
	if err := i.extend(ctx, folder, s); err != nil {
		i.sayf("The extensions %s were not installed (%v). Install them in %s.", strings.Join(s.Extensions, ", "), err, editor)
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// folder is the absolute path of a folder that starts with ~/.
func (i *installer) folder(name string) (string, error) {
	inside, ok := strings.CutPrefix(name, "~/")
	if !ok || !filepath.IsLocal(inside) {
		return "", errors.New("its `version` is not one")
	}
	if !filepath.IsAbs(i.home) || i.home == "/" {
		return "", errors.New("the user of the job has no home")
	}
	return filepath.Join(i.home, inside), nil
}

// download unpacks the archive at url, in which all is in one folder, as
// folder: beside it first, so that no half of a server is ever found there.
func (i *installer) download(ctx context.Context, url, folder string) error {
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		return err
	}
	part := folder + ".dstack-part"
	err := i.fetch(ctx, url, part)
	if err == nil {
		err = os.Rename(part, folder)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	return nil
}

var errStalled = errors.New("nothing came any more")

func (i *installer) fetch(ctx context.Context, url, to string) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, downloadLimit, fmt.Errorf("not done in %s", downloadLimit))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	resp, err := i.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", resp.Request.URL.Host, resp.Status)
	}
	timer := time.AfterFunc(i.stall, func() { stop(errStalled) })
	defer timer.Stop()
	stream, err := gzip.NewReader(&watched{resp.Body, func() { timer.Reset(i.stall) }})
	if err == nil {
		err = unpack.As(ctx, stream, to, false, nil)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, stream) //nolint:gosec // to where the checksum is; what was unpacked is more
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// watched tells of each read that brought something.
type watched struct {
	io.Reader
	alive func()
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if n > 0 {
		w.alive()
	}
	return n, err
}

// extend installs extensions with the server's own program.
func (i *installer) extend(ctx context.Context, folder string, s jobapi.EditorServer) error {
	if len(s.Extensions) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, extensionsLimit, fmt.Errorf("not done in %s", extensionsLimit))
	defer cancel()
	var args []string
	for _, e := range s.Extensions {
		args = append(args, "--install-extension", e)
	}
	program := filepath.Join(folder, s.Program)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":"+filepath.Dir(program))
	cmd.Stdout, cmd.Stderr = i.out, i.out
	// What the program starts ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return nil
}
