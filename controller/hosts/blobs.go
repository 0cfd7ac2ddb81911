package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"sync"

	"dstack/durable/blobs"
	"dstack/protocol/hostapi"
)

// Blobs opens what users uploaded, by its SHA-256 in hex. The error of one
// that is not there is [fs.ErrNotExist].
type Blobs interface {
	Open(ctx context.Context, hash string) (content io.ReadCloser, size int64, err error)
}

// push sends the blobs that a host does not have yet.
func (p *Pool) push(ctx context.Context, instanceID string, hashes []string) error {
	if len(hashes) == 0 {
		return nil
	}
	c, err := p.connectionOf(instanceID)
	if err != nil {
		return err
	}
	for _, hash := range hashes {
		has, err := c.has(ctx, hash)
		if err == nil && !has {
			err = p.pushOne(ctx, c.link, hash)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *Pool) pushOne(ctx context.Context, l *link, hash string) error {
	content, size, err := p.opt.Blobs.Open(ctx, hash)
	if errors.Is(err, fs.ErrNotExist) {
		return &hostapi.Error{Code: hostapi.CodeNotFound, Message: "Files of the run are not on the server any more: apply the configuration again"}
	}
	if err != nil {
		return fmt.Errorf("read what was uploaded: %w", err)
	}
	watched := &watched{ReadCloser: content}
	err = l.put(ctx, blobPath(hash), size, watched)
	if damaged := watched.damage(); damaged != nil {
		return &hostapi.Error{Code: hostapi.CodeNotFound, Message: "Files of the run are damaged on the server: apply the configuration again"}
	}
	return err
}

// watched remembers that what is read is damaged: the link reports its own
// errors only.
type watched struct {
	io.ReadCloser

	mu  sync.Mutex
	bad *blobs.MismatchError
}

// Read reads the next bytes.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if bad, ok := errors.AsType[*blobs.MismatchError](err); ok {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.bad = bad
	}
	return n, err //nolint:wrapcheck // a reader
}

func (w *watched) damage() *blobs.MismatchError {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bad
}

func blobPath(hash string) string { return "/v1/blobs/" + hash }

// has says whether the host has a blob.
func (l *link) has(ctx context.Context, hash string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := l.send(ctx, http.MethodHead, blobPath(hash), nil, 0)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close() //nolint:errcheck // there is none
	switch resp.StatusCode {
	case http.StatusOK:
		return true, nil
	case http.StatusNotFound:
		return false, nil
	}
	return false, fmt.Errorf("the shim answered %s", resp.Status)
}

// put sends size bytes, and closes content. ctx bounds it: nobody knows how
// fast the way to the host is.
func (l *link) put(ctx context.Context, path string, size int64, content io.ReadCloser) error {
	resp, err := l.send(ctx, http.MethodPut, path, content, size)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode >= http.StatusBadRequest {
		return answerError(resp)
	}
	return nil
}
