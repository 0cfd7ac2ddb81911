package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// partSuffix ends the name of a file that is not complete yet.
	partSuffix = ".dstack-part"
	// workers is how many files are copied at once.
	workers = 16
	// rewind is what an earlier try may have written with gaps at its end:
	// more than all requests that are on their way at once.
	rewind = 8 << 20
	// maxFaults is after how many failed files a copy gives up.
	maxFaults = 20
)

// copyJob is one copy: from one tree to another.
type copyJob struct {
	*Copier

	from, to tree
	chosen   string // the user's own path: that may be a link
	work     *errgroup.Group

	mu      sync.Mutex
	faults  []error
	folders []dressed
	links   []pair
}

// pair is a source and what it becomes.
type pair struct{ source, target string }

// dressed is a folder that gets its mode and time when all is in it.
type dressed struct {
	path string
	entry
}

// copyAll copies sources to a target; slash says that it must be a folder.
func (c *Copier) copyAll(ctx context.Context, sources []string, to tree, target string, slash bool, find func(context.Context, string) (found, error)) error {
	into, err := intoFolder(ctx, to, target, slash || len(sources) > 1)
	if err != nil {
		return err
	}
	for _, source := range sources {
		from, err := find(ctx, source)
		if err != nil {
			return err
		}
		name := target
		if into {
			name = path.Join(target, from.name)
		}
		err = c.copyTree(ctx, from.tree, to, pair{from.path, name}, target)
		closeTree(from.tree)
		if err != nil {
			return err
		}
	}
	return nil
}

// nameOf is what a source is called in the folder that it is copied into; "."
// stands for what is in it. real is its path without symbolic links.
func nameOf(source, real string) string {
	if strings.HasSuffix(source, "/.") || source == "." || source == "" || source == "~" {
		return "."
	}
	if name := path.Base(source); name != ".." && name != "/" {
		return name
	}
	return path.Base(real)
}

func closeTree(t tree) {
	if local, ok := t.(*localTree); ok {
		_ = local.close() // all its files are closed
	}
}

// intoFolder says whether sources go into the target; if they have to, it is
// made.
func intoFolder(ctx context.Context, to tree, target string, wanted bool) (bool, error) {
	e, err := to.stat(ctx, target)
	switch {
	case err == nil && e.kind == folder:
		return true, nil
	case err == nil && wanted:
		return false, failed(to, target, ErrNotFolder)
	case err == nil:
		return false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, failed(to, target, err)
	case wanted:
		if err := to.mkdir(ctx, target); err != nil {
			return false, failed(to, target, err)
		}
		return true, failed(to, target, to.dress(ctx, target, entry{perm: 0o755, mtime: time.Now()}))
	}
	return false, nil
}

// copyTree copies one file or folder to a new name.
func (c *Copier) copyTree(ctx context.Context, from, to tree, top pair, chosen string) error {
	e, err := from.stat(ctx, top.source)
	if err == nil && e.kind == link {
		err = ErrEscape // links were followed
	}
	if err != nil {
		return failed(from, top.source, err)
	}
	work, workCtx := errgroup.WithContext(ctx)
	work.SetLimit(workers)
	j := &copyJob{Copier: c, from: from, to: to, chosen: chosen, work: work}
	err = j.walk(workCtx, top.source, top.target, e)
	if ended := work.Wait(); ended != nil && ctx.Err() == nil {
		err = ended // walking ended with what the work did
	}
	// Nothing is written any more that could follow one.
	for i := 0; i < len(j.links) && err == nil; i++ {
		l := j.links[i]
		err = j.fault(failed(to, l.target, j.link(ctx, l.source, l.target)))
	}
	for i := len(j.folders) - 1; i >= 0 && err == nil; i-- {
		f := j.folders[i]
		err = failed(to, f.path, to.dress(ctx, f.path, f.entry))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(append(j.faults, err)...)
}

// walk copies what is at a path; files are left to the workers.
func (j *copyJob) walk(ctx context.Context, source, target string, e entry) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch e.kind {
	case file:
		j.counters.files.Add(1)
		j.counters.bytes.Add(e.size)
		j.work.Go(func() error { return j.fault(failed(j.to, target, j.file(ctx, source, target, e))) })
		return nil
	case link:
		j.links = append(j.links, pair{source, target})
		return nil
	case other:
		j.mu.Lock()
		defer j.mu.Unlock()
		j.warn(printable(j.from.show(source)) + " is neither a file nor a folder: left out")
		return nil
	case folder:
	}
	if err := j.folder(ctx, target, e); err != nil {
		return j.fault(failed(j.to, target, err))
	}
	children, err := j.from.list(ctx, source)
	if err != nil {
		return j.fault(failed(j.from, source, err))
	}
	for _, child := range children {
		if leadsOut(child.name, j.to.separator()) {
			return failed(j.from, source+"/"+child.name, ErrEscape)
		}
		if strings.HasSuffix(child.name, partSuffix) && child.kind == file {
			continue // half a file
		}
		if err := j.walk(ctx, path.Join(source, child.name), path.Join(target, child.name), child); err != nil {
			return err
		}
	}
	return nil
}

// leadsOut says whether a name, on a system with this separator of paths, is
// that of something else than a file in a folder.
func leadsOut(name string, separator rune) bool {
	return name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") ||
		separator == '\\' && strings.ContainsAny(name, `\:`)
}

// fault notes a file that could not be copied. What ends all work is returned.
func (j *copyJob) fault(err error) error {
	f, ok := errors.AsType[*FileError](err)
	if !ok || isFull(err) || errors.Is(err, ErrEscape) {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.faults = append(j.faults, f)
	if len(j.faults) >= maxFaults {
		return fmt.Errorf("%d files could not be copied: given up", len(j.faults))
	}
	return nil
}

// folder makes a folder unless it is there.
func (j *copyJob) folder(ctx context.Context, target string, e entry) error {
	look := j.to.stat
	if _, here := j.to.(*localTree); here && target != j.chosen {
		look = j.to.lstat // a link that came from the job may lead anywhere
	}
	there, err := look(ctx, target)
	switch {
	case err == nil && there.kind == folder:
		return nil
	case err == nil:
		return ErrFolderOverFile
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := j.to.mkdir(ctx, target); err != nil {
		return err
	}
	j.folders = append(j.folders, dressed{target, e})
	return nil
}

// link makes a symbolic link as it is at the source.
func (j *copyJob) link(ctx context.Context, source, target string) error {
	points, err := j.from.readlink(ctx, source)
	if err != nil {
		return failed(j.from, source, err)
	}
	there, err := j.to.lstat(ctx, target)
	if err == nil && there.kind == folder {
		return ErrFileOverFolder
	}
	if err == nil {
		if err := j.to.remove(ctx, target); err != nil {
			return err
		}
	}
	return j.to.symlink(ctx, points, target)
}

// file copies a file, again over a new connection if one breaks.
func (j *copyJob) file(ctx context.Context, source, target string, e entry) error {
	j.current.Store(&target)
	counted := &counter{copier: j.Copier}
	for n := 1; ; n++ {
		before := counted.best
		err := j.fileOnce(ctx, source, target, e, counted)
		if err == nil {
			j.counters.filesDone.Add(1)
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if counted.best > before {
			n = 1
		}
		if !isLost(err) {
			return err
		}
		if n == attempts {
			return &LostError{err}
		}
	}
}

func (j *copyJob) fileOnce(ctx context.Context, source, target string, e entry, count *counter) error {
	there, err := j.to.lstat(ctx, target)
	switch {
	case err == nil && there.kind == folder:
		return ErrFileOverFolder
	case err == nil && there.same(e) && j.equal(ctx, source, target, e.size):
		count.at(e.size)
		j.counters.resumed.Add(e.size)
		return j.to.dress(ctx, target, e)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	part := target + partSuffix
	sum, offset, err := j.resume(ctx, source, part, e.size)
	if err != nil {
		return err
	}
	count.at(offset)
	if err := j.pump(ctx, source, part, offset, sum, count); err != nil {
		return err
	}
	if err := j.check(ctx, source, part, sum.Sum(nil), count.now); err != nil {
		return err
	}
	if err := j.to.dress(ctx, part, e); err != nil {
		return err
	}
	return j.to.rename(ctx, part, target)
}

// equal says whether both files have the same content.
func (j *copyJob) equal(ctx context.Context, source, target string, size int64) bool {
	x, err := j.from.sum(ctx, source, size)
	if err != nil {
		return false
	}
	y, err := j.to.sum(ctx, target, size)
	return err == nil && bytes.Equal(x, y)
}

// resume finds out how much of an earlier try is good: its length, and the
// hash so far.
func (j *copyJob) resume(ctx context.Context, source, part string, size int64) (hash.Hash, int64, error) {
	there, err := j.to.lstat(ctx, part)
	if errors.Is(err, fs.ErrNotExist) {
		return sha256.New(), 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	offset := min(there.size, size) - rewind
	if there.kind != file {
		return sha256.New(), 0, j.to.remove(ctx, part)
	}
	if offset <= 0 {
		return sha256.New(), 0, nil
	}
	local, localPath, remote, remotePath := j.from, source, j.to, part
	if _, here := j.from.(*localTree); !here {
		local, localPath, remote, remotePath = j.to, part, j.from, source
	}
	near, ok := local.(*localTree)
	if !ok {
		return nil, 0, errors.New("one side of a copy must be this machine")
	}
	mine, err := near.prefix(ctx, localPath, offset)
	if err != nil {
		return nil, 0, failed(near, localPath, err)
	}
	theirs, err := remote.sum(ctx, remotePath, offset)
	if isLost(err) {
		return nil, 0, err
	}
	if err != nil || !bytes.Equal(mine.Sum(nil), theirs) {
		return sha256.New(), 0, nil //nolint:nilerr // of another file, or nobody knows
	}
	j.counters.resumed.Add(offset)
	return mine, offset, nil
}

// pump copies the content from an offset on.
func (j *copyJob) pump(ctx context.Context, source, part string, offset int64, sum hash.Hash, count *counter) (err error) {
	in, err := j.from.open(ctx, source, offset)
	if err != nil {
		return failedUnlessLost(j.from, source, err)
	}
	defer in.Close() //nolint:errcheck // it was only read
	out, err := j.to.create(ctx, part, offset)
	if err != nil {
		return err
	}
	defer func() {
		if e := out.Close(); err == nil {
			err = e
		}
	}()
	if quick, ok := in.(io.WriterTo); ok {
		_, err = quick.WriteTo(io.MultiWriter(out, sum, count))
		return err
	}
	_, err = io.Copy(out, io.TeeReader(contextReader{ctx, in}, io.MultiWriter(sum, count)))
	return err
}

func failedUnlessLost(t tree, p string, err error) error {
	if isLost(err) {
		return err
	}
	return failed(t, p, err)
}

// check compares the checksum of what went through with that of the job's side.
func (j *copyJob) check(ctx context.Context, source, part string, sum []byte, n int64) error {
	far, p := j.to, part
	if _, here := j.to.(*localTree); here {
		far, p = j.from, source
	}
	theirs, err := far.sum(ctx, p, n)
	if err != nil {
		return failedUnlessLost(far, p, err)
	}
	if bytes.Equal(sum, theirs) {
		return nil
	}
	return errors.Join(ErrChecksum, j.to.remove(ctx, part))
}

// counter counts the bytes of one file.
type counter struct {
	copier    *Copier
	now, best int64
}

// Write counts.
func (c *counter) Write(p []byte) (int, error) {
	c.at(c.now + int64(len(p)))
	return len(p), nil
}

// at says how much of the file is there.
func (c *counter) at(n int64) {
	c.copier.counters.bytesDone.Add(n - c.now)
	c.now, c.best = n, max(c.best, n)
}

// errEnough ends reading early.
var errEnough = errors.New("enough")

// limitedHash hashes so many bytes.
type limitedHash struct {
	hash.Hash

	left int64
}

// Write hashes what counts.
func (h *limitedHash) Write(p []byte) (int, error) {
	take := min(int64(len(p)), h.left)
	h.left -= take
	_, _ = h.Hash.Write(p[:take])
	if h.left == 0 && take < int64(len(p)) {
		return int(take), errEnough
	}
	return len(p), nil
}
