package shim

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

const diff = "the diff"

// diffName is the SHA-256 of diff.
func diffName() string {
	h := sha256.Sum256([]byte(diff))
	return hex.EncodeToString(h[:])
}

func TestBlobsReachTheAgent(t *testing.T) {
	rt := newFakeRuntime(t)
	got := make(chan string, 1)
	rt.script = func(c *fakeContainer) {
		data, err := os.ReadFile(filepath.Join(c.dir, jobapi.BlobsDir, diffName()))
		if err != nil {
			t.Error(err)
		}
		// A container may do what it likes with its copy.
		if err := os.WriteFile(filepath.Join(c.dir, jobapi.BlobsDir, diffName()), []byte("poison"), 0o600); err != nil {
			t.Error(err)
		}
		got <- string(data) + " " + c.job.Repo.OAuthToken
		c.run()
		<-c.stops
		c.end(jobapi.Status{State: jobapi.Terminated})
	}
	r := newRig(t, rt)
	s := spec()
	s.Job.Repo = &jobapi.Repo{CloneURL: "https://h/r", OAuthToken: "token-1", Code: diffName()}
	s.Job.Files = []jobapi.File{{Blob: diffName(), Path: "x"}}

	var e *hostapi.Error
	if err := r.Call(t.Context(), "PUT", "/v1/tasks/t1", s, nil); !errors.As(err, &e) || e.Code != hostapi.CodeBusy {
		t.Fatalf("a task whose blob is not there: %v", err)
	}
	path := "/v1/blobs/" + diffName()
	if err := r.Call(t.Context(), "PUT", path, strings.NewReader("other"), nil); !errors.As(err, &e) || e.Code != hostapi.CodeBadRequest {
		t.Errorf("a damaged blob: %v", err)
	}
	if err := r.Call(t.Context(), "PUT", "/v1/blobs/..%2fx", strings.NewReader("other"), nil); !errors.As(err, &e) || e.Code != hostapi.CodeBadRequest {
		t.Errorf("a blob without a proper name: %v", err)
	}
	for range 2 {
		if err := r.Call(t.Context(), "PUT", path, strings.NewReader(diff), nil); err != nil {
			t.Fatal(err)
		}
	}
	r.Put("t1", s)
	r.Await("t1", hostapi.TaskRunning)
	if text := <-got; text != "the diff token-1" {
		t.Errorf("the agent got %q", text)
	}
	record, err := os.ReadFile(filepath.Join(r.home, "tasks", "t1", recordName))
	if err != nil || strings.Contains(string(record), "token-1") {
		t.Errorf("the token is on the disk of the host while the job runs: %v", err)
	}
	// The next task gets what was put, not what a container made of it.
	r.Put("t2", s)
	if text := <-got; text != "the diff token-1" {
		t.Errorf("the second agent got %q", text)
	}
	for _, id := range []string{"t1", "t2"} {
		r.Stop(id, hostapi.StopTask{Grace: 10})
		r.Await(id, hostapi.TaskTerminated)
	}
}
