package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"dstack/agent/reap"
	"dstack/agent/repo"
	"dstack/agent/unpack"
	"dstack/protocol/jobapi"
)

// fetch puts the repo and the files of the job into place, in the order of
// spec job-execution.md 9.4. If it fails, it returns the final status of the
// job; an order to stop ends it, and is the caller's to obey.
func (j *job) fetch(ctx context.Context, h host, s *setup) *jobapi.Status {
	ctx, cancel := j.untilOrdered(ctx)
	defer cancel()
	defer func() {
		if err := os.RemoveAll(filepath.Join(h.dir, jobapi.BlobsDir)); err != nil {
			j.logger.Warn().Err(err).Msg("files for the job not removed")
		}
	}()
	f := fetcher{job: j, host: h, setup: s}
	if r := j.spec.Repo; r != nil {
		if err := f.repo(ctx, r); err != nil {
			status := failed(reasonExited, "Failed to set up the repo (%v)", err)
			return &status
		}
		var err error
		if j.creds, err = h.writeGitCreds(j.spec, s); err != nil {
			j.logger.Warn().Err(err).Msg("git credentials not written")
		}
	}
	for _, file := range j.spec.Files {
		if err := f.file(ctx, file); err != nil {
			status := failed(reasonExecutor, "Failed to set up files (%v)", err)
			return &status
		}
	}
	return nil
}

// untilOrdered is a context that ends also when the job is to be stopped.
func (j *job) untilOrdered(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if j.orders.get() != nil { // who waited before us may have been woken for it
		cancel(errOrdered)
	}
	done, exited := make(chan struct{}), make(chan struct{})
	go func() { // ends with the returned function
		defer close(exited)
		for {
			select {
			case <-j.orders.wake:
				if j.orders.get() != nil {
					cancel(errOrdered)
				}
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		close(done)
		<-exited
		cancel(nil)
	}
}

var errOrdered = errors.New("the job is to be stopped")

type fetcher struct {
	*job
	host  host
	setup *setup
}

// owner is whom files belong to: nil if this process is the job's user.
func (f fetcher) owner() *unpack.Owner {
	c := f.setup.command.Credential
	if c == nil {
		return nil
	}
	return &unpack.Owner{UID: int(c.Uid), GID: int(c.Gid)}
}

func (f fetcher) blob(hash string) (*os.File, error) {
	file, err := os.Open(filepath.Join(f.host.dir, jobapi.BlobsDir, hash))
	if err != nil {
		return nil, fmt.Errorf("open what was uploaded: %w", err)
	}
	return file, nil
}

// repo fills the repo's folder, unless something is in it already.
func (f fetcher) repo(ctx context.Context, r *jobapi.Repo) (err error) {
	dir := f.setup.repoDir
	empty, err := isEmpty(dir)
	switch {
	case err != nil:
		return err
	case !empty && r.KeepExisting:
		f.logger.Info().Str("dir", dir).Msg("repo kept as it is")
		return nil
	case !empty:
		return fmt.Errorf("%s exists already and is not empty: remove it, choose another path, or set if_exists: skip", dir)
	}
	if err := makeDir(dir, f.setup.command.Credential); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	if err := give(dir, f.setup.command.Credential); err != nil {
		return fmt.Errorf("hand over %s: %w", dir, err)
	}
	var code *os.File
	if r.Code != "" {
		if code, err = f.blob(r.Code); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, code.Close()) }()
	}
	if r.CloneURL == "" {
		return unpack.Into(ctx, code, dir, f.owner())
	}
	return f.clone(ctx, r, dir, code)
}

// isEmpty says whether there is nothing in a folder, or no folder. What
// mkfs makes at the root of a volume is nothing.
func isEmpty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return len(entries) == 0 || len(entries) == 1 && entries[0].Name() == "lost+found", nil
}

// clone runs this program as the job's user to clone a repo.
func (f fetcher) clone(ctx context.Context, r *jobapi.Repo, dir string, diff *os.File) error {
	request, err := json.Marshal(repo.Request{Repo: *r, Dir: dir})
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	env := append(os.Environ(), "HOME="+f.setup.user.Home)
	said, status, err := f.helper(ctx, []string{self, repo.CloneCommand}, env, request, diff)
	switch {
	case err != nil:
		return err
	case status.ExitStatus() == 0:
		return nil
	case said == "":
		return fmt.Errorf("the clone ended with status %d", reap.Code(status))
	}
	return errors.New(said)
}

// maxSaid bounds what a helper may say, in bytes.
const maxSaid = 4 << 10

// helper runs a program as the job's user and waits for it; it is killed with
// all that it started when ctx ends. extra, if not nil, is its descriptor 3.
func (f fetcher) helper(ctx context.Context, args, env []string, input []byte, extra *os.File) (string, syscall.WaitStatus, error) {
	in, toIn, err := os.Pipe()
	if err != nil {
		return "", 0, fmt.Errorf("make pipe: %w", err)
	}
	fromSaid, said, err := os.Pipe()
	if err != nil {
		return "", 0, errors.Join(fmt.Errorf("make pipe: %w", err), in.Close(), toIn.Close())
	}
	files := []uintptr{in.Fd(), said.Fd(), said.Fd()}
	if extra != nil {
		files = append(files, extra.Fd())
	}
	pid, exit, err := f.reaper.Start(func() (int, error) {
		return syscall.ForkExec(args[0], args, &syscall.ProcAttr{
			Dir: "/", Env: env, Files: files,
			Sys: &syscall.SysProcAttr{Setpgid: true, Credential: f.setup.command.Credential},
		})
	})
	err = errors.Join(err, in.Close(), said.Close())
	if err != nil {
		return "", 0, errors.Join(fmt.Errorf("start %s: %w", args[0], err), toIn.Close(), fromSaid.Close())
	}
	var words bytes.Buffer
	g := new(errgroup.Group)
	g.Go(func() error {
		_, err := toIn.Write(input)
		if errors.Is(err, syscall.EPIPE) {
			err = nil // it ended, and says why
		}
		return errors.Join(err, toIn.Close())
	})
	g.Go(func() error {
		_, err := io.CopyN(&words, fromSaid, maxSaid)
		if err == nil {
			_, err = io.Copy(io.Discard, fromSaid)
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return errors.Join(err, fromSaid.Close())
	})
	var status syscall.WaitStatus
	select {
	case status = <-exit:
	case <-ctx.Done():
		_ = syscall.Kill(-pid, syscall.SIGKILL) // it may have ended just now
		status = <-exit
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL) // what it left behind would hold the pipe
	if err := errors.Join(g.Wait(), context.Cause(ctx)); err != nil {
		return "", status, err
	}
	text := strings.TrimSpace(words.String())
	return strings.TrimPrefix(text, "dstack-agent: "), status, nil
}

// file unpacks an archive at its path.
func (f fetcher) file(ctx context.Context, file jobapi.File) (err error) {
	dest, err := place(file.Path, f.setup.command.Dir, f.setup.user.Home)
	if err != nil {
		return err
	}
	merge := f.holds(dest)
	if err := f.mayReplace(dest, merge); err != nil {
		return err
	}
	if err := makeDir(filepath.Dir(dest), f.setup.command.Credential); err != nil {
		return fmt.Errorf("make %s: %w", filepath.Dir(dest), err)
	}
	archive, err := f.blob(file.Blob)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	if err := unpack.As(ctx, archive, dest, merge, f.owner()); err != nil {
		return fmt.Errorf("%s: %w", file.Path, err)
	}
	return nil
}

// holds says whether a folder holds what the job cannot do without: such a
// folder gets the files beside what it has, instead of being replaced.
func (f fetcher) holds(dest string) bool {
	for _, dir := range []string{f.setup.command.Dir, f.setup.user.Home, f.host.dir} {
		if dest == dir || dest == "/" || strings.HasPrefix(dir, dest+"/") {
			return true
		}
	}
	return false
}

// mayReplace refuses to remove what belongs to the host of a job that is not
// isolated.
func (f fetcher) mayReplace(dest string, merge bool) error {
	if f.spec.Isolated || merge || strings.HasPrefix(dest, f.host.dir+"/") {
		return nil
	}
	if _, err := os.Lstat(dest); err == nil {
		return fmt.Errorf("%s exists on the host, and jobs without isolation do not replace it", dest)
	}
	return nil
}

// place is a path of the configuration as the job sees it.
func place(path, workingDir, home string) (string, error) {
	switch {
	case path == "~" || strings.HasPrefix(path, "~/"):
		return filepath.Join(home, path[1:]), nil
	case strings.HasPrefix(path, "~"):
		return "", fmt.Errorf("%s: the home of another user is not supported, use ~/ or an absolute path", path)
	case filepath.IsAbs(path):
		return filepath.Clean(path), nil
	}
	return filepath.Join(workingDir, path), nil
}
