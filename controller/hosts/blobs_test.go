package hosts

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"dstack/durable/blobs"
	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

// blobMap are blobs in memory.
type blobMap map[string]string

func (m blobMap) Open(_ context.Context, hash string) (io.ReadCloser, int64, error) {
	text, ok := m[hash]
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader([]byte(text))), int64(len(text)), nil
}

// damaged has every blob, of which the last bytes are missing.
type damaged struct{}

func (damaged) Open(_ context.Context, hash string) (io.ReadCloser, int64, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader("begin"), iotest.ErrReader(&blobs.MismatchError{Want: hash, Got: "other"}))), 8, nil
}

// blobShim takes blobs beside what a fake shim does.
type blobShim struct {
	mu    sync.Mutex
	blobs map[string]string
	puts  int
	bad   bool
}

func (s *blobShim) handler(mux *http.ServeMux) {
	mux.HandleFunc("HEAD /v1/blobs/{hash}", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, ok := s.blobs[r.PathValue("hash")]; !ok {
			w.WriteHeader(http.StatusNotFound)
		}
	})
	mux.HandleFunc("PUT /v1/blobs/{hash}", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.puts++
		if err != nil || s.bad || int64(len(data)) != r.ContentLength {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"code":"bad_request","message":"damaged"}`)
			return
		}
		s.blobs[r.PathValue("hash")] = string(data)
	})
}

func TestTasksGetTheirBlobsFirst(t *testing.T) {
	shim, r := newFakeShim(), newRecorder()
	taker := &blobShim{blobs: map[string]string{"b": "old"}}
	shim.more = taker.handler
	p := startPool(t, r, withPipes(servePipes(t, shim)))
	p.opt.Blobs = blobMap{"a": text(3 << 20), "b": "never sent"}
	p.Ensure(target())
	r.await(t, "the host is up", func() bool { return len(r.ups) == 1 })
	spec := hostapi.TaskSpec{Name: "a", Job: jobapi.Spec{Files: []jobapi.File{{Blob: "a"}, {Blob: "b"}}}}
	for _, id := range []string{"t1", "t2"} {
		if _, err := p.StartTask(t.Context(), "i", id, spec); err != nil {
			t.Fatal(err)
		}
	}
	taker.mu.Lock()
	if taker.blobs["a"] != text(3<<20) || taker.puts != 1 {
		t.Errorf("%d puts, %d bytes", taker.puts, len(taker.blobs["a"]))
	}
	taker.bad = true
	taker.mu.Unlock()

	var refused *hostapi.Error
	spec.Job.Files = []jobapi.File{{Blob: "none"}}
	if _, err := p.StartTask(t.Context(), "i", "t3", spec); !errors.As(err, &refused) || refused.Code != hostapi.CodeNotFound {
		t.Errorf("a blob that is not on the server: %v", err)
	}
	p.opt.Blobs = blobMap{"none": "x"}
	if _, err := p.StartTask(t.Context(), "i", "t3", spec); !errors.As(err, &refused) || refused.Code != hostapi.CodeBadRequest {
		t.Errorf("a blob that the host refuses: %v", err)
	}
	p.opt.Blobs = damaged{}
	if _, err := p.StartTask(t.Context(), "i", "t3", spec); !errors.As(err, &refused) || refused.Code != hostapi.CodeNotFound || !strings.Contains(refused.Message, "damaged") {
		t.Errorf("a blob that is damaged on the server: %v", err)
	}
	if len(shim.list()) != 2 {
		t.Errorf("tasks %v", shim.list())
	}
}
