//go:build e2e

package litestream

import (
	"strings"
	"testing"
	"time"

	"dstack/test/lab"
	"dstack/test/storages"
)

// TestHang: a storage that does not answer any more keeps a server neither
// from serving nor from ending within the 10 seconds that `docker stop` grants,
// and a start from saying so.
func TestHang(t *testing.T) {
	t.Parallel()
	for scheme, start := range storages.All() {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			st := start(t)
			st.Make(t, "bucket")
			env := environment(st, st.URL("bucket", "p"))
			s := server(t, t.TempDir(), env, "--wait-for-lease")
			all := notes{}
			mend := st.Proxy.Hang()
			defer mend()
			all.writeOne(t, s, "during")
			storages.Await(t, "the lease can't be renewed", func() bool { return strings.Contains(s.Log(), "can't be renewed") })
			began := time.Now()
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 9*time.Second {
				t.Errorf("the server ended after %s", took)
			}
			if !strings.Contains(s.Log(), "the last changes are in the local database and follow at the next start") {
				t.Error("the log does not tell of the last changes")
			}
			if text := lab.Refused(t, t.TempDir(), env); !strings.Contains(text, "the storage can't be reached") {
				t.Errorf("sentence: %s", text)
			}
			mend()
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			all.check(t, s, time.Now())
		})
	}
}
