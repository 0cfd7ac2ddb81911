package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"syscall"
	"time"

	"dstack/durable/blobs"
	"dstack/protocol/hostapi"
	"dstack/shim/agentlink"
	"dstack/shim/workload"
)

const (
	// maxBlobs is how many bytes of blobs are kept for tasks that come later.
	maxBlobs = 1 << 30
	// blobGrace is how long a blob may wait for the task that needs it.
	blobGrace = 10 * time.Minute
)

func (c Config) blobsDir() string { return filepath.Join(c.Home, "blobs") }

// putBlob keeps what a task will need.
func (m *Manager) putBlob(r *http.Request) (any, error) {
	hash := r.PathValue("hash")
	if !blobs.Valid(hash) {
		return nil, fault(hostapi.CodeBadRequest, "a blob is named by its SHA-256 in lower-case hex, not %.80q", hash)
	}
	_, err := m.blobs.Put(hash, r.Body)
	if wrong, ok := errors.AsType[*blobs.MismatchError](err); ok {
		return nil, fault(hostapi.CodeBadRequest, "what was uploaded for the run is damaged: %v", wrong)
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return nil, fault(hostapi.CodeInternal, "the disk of the host is full: free some space on it")
	}
	if err != nil {
		return nil, fmt.Errorf("keep blob: %w", err)
	}
	m.trimBlobs()
	return struct{}{}, nil
}

func (m *Manager) hasBlob(w http.ResponseWriter, r *http.Request) {
	if !m.blobs.Has(r.PathValue("hash")) {
		w.WriteHeader(http.StatusNotFound)
	}
}

// lacking is a blob that the task needs and the host does not have; "" if
// there is none.
func (m *Manager) lacking(spec *hostapi.TaskSpec) string {
	for _, hash := range spec.Job.Blobs() {
		if !m.blobs.Has(hash) {
			return hash
		}
	}
	return ""
}

// trimBlobs removes the blobs that were not used for longest. Those that a
// task waits for stay.
func (m *Manager) trimBlobs() {
	wanted := map[string]bool{}
	for _, t := range m.all() {
		rec := t.record()
		for _, hash := range rec.Spec.Job.Blobs() {
			wanted[hash] = true
		}
	}
	err := m.blobs.Trim(maxBlobs, time.Now().Add(-blobGrace), func(hash string) bool { return wanted[hash] })
	if err != nil {
		m.cfg.Log.Warn().Err(err).Msg("blobs not trimmed")
	}
}

// handOver copies the task's blobs into the folder that its agent sees: a
// link would let the container change what other tasks get.
func (t *task) handOver(folder *agentlink.Folder, rec record) error {
	if err := folder.ClearBlobs(rec.Owner); err != nil {
		return fmt.Errorf("hand over files: %w", err)
	}
	for _, hash := range rec.Spec.Job.Blobs() {
		r, _, err := t.m.blobs.Open(hash)
		if errors.Is(err, fs.ErrNotExist) {
			return &workload.StartError{Reason: reasonExecutor, Message: "The host lost the files of the run before it was started: run it again"}
		}
		if err != nil {
			return fmt.Errorf("hand over files: %w", err)
		}
		err = folder.WriteBlob(hash, r, rec.Owner)
		if err := errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("hand over files: %w", err)
		}
	}
	return nil
}
