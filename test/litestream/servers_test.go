//go:build e2e

package litestream

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"dstack/test/lab"
	"dstack/test/storages"
)

func fetch(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func get(t *testing.T, url string, out any) {
	t.Helper()
	if err := json.Unmarshal([]byte(fetch(t, url)), out); err != nil {
		t.Fatal(err)
	}
}

// metric is the value of one without labels.
func metric(t *testing.T, url, name string) (value float64) {
	t.Helper()
	_, rest, found := strings.Cut(fetch(t, url+"/metrics"), "\n"+name+" ")
	if _, err := fmt.Sscan(rest, &value); !found || err != nil {
		t.Errorf("metric %s: %v", name, err)
	}
	return value
}

// TestTwoServers: the second on a replica ends at once, or waits and takes
// over when the first is gone.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	for scheme, start := range storages.All() {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			st := start(t)
			st.Make(t, "bucket")
			env := environment(st, st.URL("bucket", "p"))
			first := server(t, t.TempDir(), env)
			began := time.Now()
			text := lab.Refused(t, t.TempDir(), env)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the second server ended after %s", took)
			}
			if !strings.Contains(text, "holds the lease until "+time.Now().UTC().Format("2006-01-02 ")) {
				t.Errorf("sentence: %s", text)
			}
			dir, done := t.TempDir(), make(chan error)
			var second *lab.Server
			go func() {
				var err error
				second, err = lab.StartServer(t.Context(), dir, env, "--wait-for-lease")
				done <- err
			}()
			storages.Await(t, "the second server waits", func() bool {
				return strings.Contains((&lab.Server{Dir: dir}).Log(), "waiting for it")
			})
			killed := time.Now()
			if err := first.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			defer func() { _ = second.Kill() }()
			if took := time.Since(killed); took > 30*time.Second {
				t.Errorf("the second server served after %s", took)
			}
		})
	}
}

// TestTakenOver: a server that is cut off loses its lease to another one. As
// soon as it knows, it stops; nothing of it reaches the replica any more.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	for scheme, start := range storages.All() {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			st := start(t)
			st.Make(t, "bucket")
			first := server(t, t.TempDir(), environment(st, st.URL("bucket", "p")))
			storages.Await(t, "the replica has all", func() bool { lag, _ := health(t, first); return lag == 0 })
			other := *st
			other.Proxy = st.Proxy.Another(t)
			var env []string
			for _, v := range environment(st, st.URL("bucket", "p")) {
				env = append(env, strings.ReplaceAll(v, st.Proxy.Address, other.Proxy.Address))
			}
			st.Proxy.SetCut(true)
			lost := notes{}
			lost.writeOne(t, first, "lost")
			second := server(t, t.TempDir(), env, "--wait-for-lease")
			kept := notes{}
			kept.writeOne(t, second, "kept")
			st.Proxy.SetCut(false)
			storages.Await(t, "the first server stops", func() bool { return strings.Contains(first.Log(), "the lease was lost to ") })
			if err := first.Wait(); err == nil || !strings.Contains(err.Error(), "exit status 1") {
				t.Errorf("the first server ended with %v", err)
			}
			storages.Await(t, "the replica has all", func() bool { lag, _ := health(t, second); return lag == 0 })
			if err := second.Stop(); err != nil {
				t.Fatal(err)
			}
			third := server(t, t.TempDir(), env)
			kept.check(t, third, time.Now())
			lost.check(t, third, time.Time{})
			if len(lost) != 0 {
				t.Errorf("the lost server's changes came back: %v", lost)
			}
		})
	}
}
