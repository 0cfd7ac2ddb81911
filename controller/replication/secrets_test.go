package replication

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"dstack/controller/objects"
)

// TestSignatureIsHidden: a token of Azure is part of each URL, and an error of
// the network names the URL.
func TestSignatureIsHidden(t *testing.T) {
	target, err := objects.Parse("abs://account@box/path?endpoint=http://127.0.0.1:9/account")
	if err != nil {
		t.Fatal(err)
	}
	log := &output{}
	r, err := Open(t.Context(), Options{
		Target: target, Now: time.Now, Log: zerolog.New(log),
		Getenv: func(name string) string {
			return map[string]string{"LITESTREAM_AZURE_SAS_TOKEN": "sv=2024-01-01&sig=hidden"}[name]
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = r.Acquire(t.Context(), false)
	if err == nil || !strings.Contains(err.Error(), "can't be reached") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("sentence: %v", err)
	}
	cause := errors.Unwrap(err)
	if !strings.Contains(cause.Error(), "hidden") {
		t.Fatalf("this test shows nothing: %v", cause)
	}
	r.state.failed(r.opts.Log, cause)
	r.logs.With("cause", cause).Error("upload failed", "error", cause)
	if text := log.String(); strings.Count(text, "127.0.0.1:9/account/box/path") != 3 || strings.Contains(text, "hidden") {
		t.Errorf("log: %s", text)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
