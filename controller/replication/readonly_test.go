package replication

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"dstack/controller/objects"
)

// TestReadOnly: who may read a bucket, but not write there, is told so.
func TestReadOnly(t *testing.T) {
	answers := map[string]struct{ none, no string }{
		"s3": {
			none: `<Error><Code>NoSuchKey</Code><Message>no</Message></Error>`,
			no:   `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`,
		},
		"gcs": {
			none: `{"error": {"code": 404, "message": "No such object: bucket/p/lock.json"}}`,
			no:   `{"error": {"code": 403, "message": "account does not have storage.objects.create access"}}`,
		},
		"abs": {
			none: `<Error><Code>BlobNotFound</Code><Message>no</Message></Error>`,
			no:   `<Error><Code>AuthorizationPermissionMismatch</Code><Message>no</Message></Error>`,
		},
	}
	for scheme, answer := range answers {
		t.Run(scheme, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				text, status := answer.no, http.StatusForbidden
				if r.Method == http.MethodGet {
					text, status = answer.none, http.StatusNotFound
				}
				code, _, _ := strings.Cut(strings.TrimPrefix(text, "<Error><Code>"), "<")
				w.Header().Set("X-Ms-Error-Code", code)
				w.WriteHeader(status)
				_, _ = io.WriteString(w, text)
			}))
			defer server.Close()
			url := map[string]string{
				"s3": "s3://bucket/p?endpoint=" + server.URL + "&forcePathStyle=true&region=us-east-1", "gcs": "gcs://bucket/p", "abs": "abs://account@bucket/p?endpoint=" + server.URL,
			}[scheme]
			target, err := objects.Parse(url)
			if err != nil {
				t.Fatal(err)
			}
			env := map[string]string{
				"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "hidden", "STORAGE_EMULATOR_HOST": server.URL, "LITESTREAM_AZURE_ACCOUNT_KEY": "aGlkZGVu",
			}
			for name, value := range env {
				t.Setenv(name, value) // the SDK of AWS asks the environment itself
			}
			r, err := Open(t.Context(), Options{Target: target, Now: time.Now, Log: zerolog.Nop(), Getenv: func(name string) string { return env[name] }})
			if err != nil {
				t.Fatal(err)
			}
			err = r.Acquire(t.Context(), false)
			if err == nil || !strings.Contains(err.Error(), "these credentials may not read, list, write and delete there; give them the rights, or use others: ") || strings.Contains(err.Error(), "hidden") {
				t.Error(err)
			}
			if err := r.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
