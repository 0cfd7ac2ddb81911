package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"dstack/protocol/jobssh"
)

// remoteTree is the file system of a job. Its operations survive a lost
// connection: they are done again over the next one.
type remoteTree struct {
	job Job

	mu   sync.Mutex
	conn *ssh.Client  // of sftp
	dead *ssh.Client  // the last one that broke
	sftp *sftp.Client // nil until it is needed, and after it was lost
}

// cleanRemote is a path of the user without what SFTP does not need.
func cleanRemote(p string) string {
	switch {
	case p == "" || p == "~":
		return "."
	case strings.HasPrefix(p, "~/"):
		p = p[2:] // a relative path begins at home
	}
	return path.Clean(p)
}

// findRemote finds a file or folder to read; a symbolic link stands for its
// target.
func (c *Copier) findRemote(ctx context.Context, p string) (found, error) {
	real := cleanRemote(p)
	e, err := c.remote.lstat(ctx, real)
	if err == nil && e.kind == link {
		err = c.remote.do(ctx, func(s *sftp.Client) error {
			target, err := s.RealPath(real)
			if err == nil {
				real = target
			}
			return err
		})
	}
	return found{c.remote, real, nameOf(p, real)}, failed(c.remote, real, err)
}

func (t *remoteTree) show(p string) string { return t.job.Name + ":" + p }

// client is an SFTP client on the connection of the moment.
func (t *remoteTree) client(ctx context.Context) (*sftp.Client, *ssh.Client, error) {
	conn, err := t.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sftp != nil && t.conn == conn {
		return t.sftp, conn, nil
	}
	if t.sftp != nil {
		_ = t.sftp.Close() // its connection is gone
		t.sftp = nil
	}
	client, err := sftp.NewClient(conn, sftp.UseConcurrentWrites(true), sftp.MaxConcurrentRequestsPerFile(inFlight))
	if isLost(err) {
		_ = conn.Close()
		_ = conn.Wait() // why it ended is known
		t.dead = conn
	}
	if err != nil {
		return nil, nil, fmt.Errorf("start file transfer: %w", err)
	}
	t.conn, t.sftp = conn, client
	return client, conn, nil
}

// swapPause is how long a connection that is known to be dead may be given
// again.
const swapPause = 20 * time.Millisecond

// connect gives a connection that is not known to be dead.
func (t *remoteTree) connect(ctx context.Context) (*ssh.Client, error) {
	for {
		conn, err := t.job.Connect(ctx)
		if err != nil {
			return nil, &LostError{err}
		}
		t.mu.Lock()
		dead := t.dead == conn
		t.mu.Unlock()
		if !dead {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(swapPause):
		}
	}
}

// inFlight is how many requests of one file are on their way at once.
const inFlight = 128

func (t *remoteTree) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sftp == nil {
		return nil
	}
	err := t.sftp.Close()
	t.sftp = nil
	if err != nil && !isLost(err) {
		return fmt.Errorf("end file transfer: %w", err)
	}
	return nil
}

// attempts is how often something is tried over new connections that break,
// too, before anything has come through.
const attempts = 5

// do does something that may be done twice, again over a new connection if
// the present one breaks.
func (t *remoteTree) do(ctx context.Context, f func(*sftp.Client) error) error {
	return t.doBoth(ctx, func(s *sftp.Client, _ *ssh.Client) error { return f(s) })
}

func (t *remoteTree) doBoth(ctx context.Context, f func(*sftp.Client, *ssh.Client) error) error {
	for n := 1; ; n++ {
		err := t.once(ctx, f)
		switch {
		case err == nil || !isLost(err):
			return err
		case n == attempts:
			return &LostError{err}
		}
	}
}

// once does something over the present connection. The end of ctx ends it.
func (t *remoteTree) once(ctx context.Context, f func(*sftp.Client, *ssh.Client) error) error {
	client, conn, err := t.client(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = client.Close() })
	err = f(client, conn)
	if !stop() {
		return context.Cause(ctx)
	}
	if isLost(err) {
		t.forget(conn)
	}
	return err
}

// forget gives a broken connection up, also one of which half still works.
func (t *remoteTree) forget(conn *ssh.Client) {
	_ = conn.Close()
	_ = conn.Wait() // why it ended is known
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dead = conn
}

// isLost says whether an operation failed because its connection did.
func isLost(err error) bool {
	return errors.Is(err, sftp.ErrSSHFxConnectionLost) || errors.Is(err, sftp.ErrSSHFxNoConnection) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrClosed)
}

func hasText(err error, texts ...string) bool {
	for _, text := range texts {
		if strings.Contains(strings.ToLower(err.Error()), text) {
			return true
		}
	}
	return false
}

func (t *remoteTree) separator() rune { return '/' }

func (t *remoteTree) lstat(ctx context.Context, p string) (entry, error) {
	return t.look(ctx, func(s *sftp.Client) (fs.FileInfo, error) { return s.Lstat(p) })
}

func (t *remoteTree) stat(ctx context.Context, p string) (entry, error) {
	return t.look(ctx, func(s *sftp.Client) (fs.FileInfo, error) { return s.Stat(p) })
}

func (t *remoteTree) look(ctx context.Context, f func(*sftp.Client) (fs.FileInfo, error)) (e entry, err error) {
	err = t.do(ctx, func(s *sftp.Client) error {
		info, err := f(s)
		if err == nil {
			e = entryOf(info)
		}
		return err
	})
	return e, err
}

func (t *remoteTree) list(ctx context.Context, p string) (out []entry, err error) {
	err = t.do(ctx, func(s *sftp.Client) error {
		infos, err := s.ReadDirContext(ctx, p)
		out = make([]entry, len(infos))
		for i, info := range infos {
			out[i] = entryOf(info)
		}
		return err
	})
	return out, err
}

func (t *remoteTree) readlink(ctx context.Context, p string) (target string, err error) {
	err = t.do(ctx, func(s *sftp.Client) error {
		target, err = s.ReadLink(p)
		return err
	})
	return target, err
}

func (t *remoteTree) mkdir(ctx context.Context, p string) error {
	return t.do(ctx, func(s *sftp.Client) error {
		if info, err := s.Stat(p); err == nil && info.IsDir() { // made before the connection broke
			return nil
		}
		if err := s.Mkdir(p); err != nil {
			return err
		}
		return s.Chmod(p, 0o700)
	})
}

func (t *remoteTree) symlink(ctx context.Context, target, p string) error {
	return t.do(ctx, func(s *sftp.Client) error {
		if there, err := s.ReadLink(p); err == nil && there == target {
			return nil
		}
		return s.Symlink(target, p)
	})
}

func (t *remoteTree) dress(ctx context.Context, p string, e entry) error {
	return t.do(ctx, func(s *sftp.Client) error {
		return errors.Join(s.Chmod(p, e.perm), s.Chtimes(p, e.mtime, e.mtime))
	})
}

func (t *remoteTree) rename(ctx context.Context, from, to string) error {
	return t.do(ctx, func(s *sftp.Client) error {
		err := s.PosixRename(from, to)
		if _, gone := s.Lstat(from); errors.Is(err, fs.ErrNotExist) && errors.Is(gone, fs.ErrNotExist) {
			if _, there := s.Lstat(to); there == nil { // done before the connection broke
				return nil
			}
		}
		return err
	})
}

func (t *remoteTree) remove(ctx context.Context, p string) error {
	return t.do(ctx, func(s *sftp.Client) error { return s.Remove(p) })
}

// stream is an open file of the job: what happens to it is not done again.
type stream struct {
	*sftp.File

	release func()
}

// Close closes the file.
func (s stream) Close() error {
	defer s.release()
	return s.File.Close()
}

// ReadFrom writes what r has, with many requests on their way.
func (s stream) ReadFrom(r io.Reader) (int64, error) {
	return s.File.ReadFromWithConcurrency(r, inFlight)
}

func (t *remoteTree) open(ctx context.Context, p string, offset int64) (source, error) {
	return t.openFile(ctx, p, os.O_RDONLY, func(f *sftp.File) error {
		_, err := f.Seek(offset, io.SeekStart)
		return err
	})
}

func (t *remoteTree) create(ctx context.Context, p string, offset int64) (sink, error) {
	return t.openFile(ctx, p, os.O_WRONLY|os.O_CREATE, func(f *sftp.File) error {
		err := errors.Join(f.Chmod(0o600), f.Truncate(offset))
		if err == nil {
			_, err = f.Seek(offset, io.SeekStart)
		}
		return err
	})
}

func (t *remoteTree) openFile(ctx context.Context, p string, flags int, prepare func(*sftp.File) error) (stream, error) {
	client, _, err := t.client(ctx)
	if err != nil {
		return stream{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = client.Close() })
	f, err := client.OpenFile(p, flags)
	if err == nil {
		if err = prepare(f); err == nil {
			return stream{f, func() { stop() }}, nil
		}
		err = errors.Join(err, f.Close())
	}
	stop()
	return stream{}, err
}

// sum asks the job's SSH server, so that nothing is needed in the image and
// the data stay there. Other servers' files are read back.
func (t *remoteTree) sum(ctx context.Context, p string, n int64) (sum []byte, err error) {
	err = t.doBoth(ctx, func(s *sftp.Client, conn *ssh.Client) error {
		sum, err = askSum(ctx, conn, p, n)
		if errors.Is(err, errUnasked) {
			sum, err = readSum(s, p, n)
		}
		return err
	})
	return sum, err
}

// errUnasked says that a server computes no checksums.
var errUnasked = errors.New("the server computes no checksums")

func askSum(ctx context.Context, conn *ssh.Client, p string, n int64) ([]byte, error) {
	payload, err := json.Marshal(jobssh.File{Path: p, Length: n})
	if err != nil {
		return nil, fmt.Errorf("ask for a checksum: %w", err)
	}
	channel, requests, err := conn.OpenChannel("session", nil)
	if err != nil {
		return nil, fmt.Errorf("ask for a checksum: %w", err)
	}
	defer channel.Close() //nolint:errcheck // the server has closed it
	defer context.AfterFunc(ctx, func() { _ = channel.Close() })()
	go ssh.DiscardRequests(requests)
	ok, err := channel.SendRequest(jobssh.Sum, true, payload)
	if err != nil {
		return nil, fmt.Errorf("ask for a checksum: %w", err)
	}
	if !ok {
		return nil, errUnasked
	}
	var wrong strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(&wrong, io.LimitReader(channel.Stderr(), 1000))
	}()
	text, err := io.ReadAll(io.LimitReader(channel, 2*sha256.Size+1))
	<-done
	if err != nil {
		return nil, fmt.Errorf("read checksum: %w", err)
	}
	if wrong.Len() > 0 {
		return nil, errors.New(strings.TrimSpace(wrong.String()))
	}
	sum, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(sum) != sha256.Size {
		return nil, fmt.Errorf("read checksum: %w", io.ErrUnexpectedEOF)
	}
	return sum, nil
}

func readSum(s *sftp.Client, p string, n int64) ([]byte, error) {
	f, err := s.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	h := &limitedHash{Hash: sha256.New(), left: n}
	if _, err := f.WriteTo(h); err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	if h.left > 0 {
		return nil, fmt.Errorf("read back: %w", ErrChecksum)
	}
	return h.Sum(nil), nil
}
