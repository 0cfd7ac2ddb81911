//go:build e2e

package e2ecloud

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/cloudlab"
	"dstack/test/lab"
)

// newServer starts a server that rents in the shared cloud. When the test ends
// all that it rented must be gone.
func newServer(t *testing.T, env ...string) *lab.Server {
	t.Helper()
	return newServerIn(t, cloudlab.Config(cloudlab.Region), env...)
}

// newServerIn is newServer with a config.yml.
func newServerIn(t *testing.T, config string, env ...string) *lab.Server {
	t.Helper()
	dir := t.TempDir()
	folder := filepath.Join(dir, "server")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "config.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := lab.StartServer(t.Context(), dir, append(shared.cloud.Env(), env...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(timeline(events(t, s)))
			keep := filepath.Join(os.TempDir(), "e2e-cloud-"+strings.ReplaceAll(t.Name(), "/", "-")+".log")
			_ = os.WriteFile(keep, []byte(s.Log()), 0o600)
			t.Log("server log:", keep)
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// apply applies a configuration with the CLI and returns what it printed.
func apply(t *testing.T, s *lab.Server, name, text string, more ...string) lab.Result {
	t.Helper()
	file := filepath.Join(s.Dir, name+".dstack.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := s.CLI(t.Context(), s.Dir, append([]string{"apply", "-f", file, "-y"}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// instances are those of the project that are not terminated.
func instances(ctx context.Context, s *lab.Server) ([]api.Instance, error) {
	var out []api.Instance
	return out, s.Call(ctx, "instances/list", map[string]any{"only_active": true, "limit": 100}, &out)
}

// empty waits until neither the server nor the cloud
// knows a machine.
func empty(t *testing.T, s *lab.Server) {
	t.Helper()
	if err := lab.Wait(t.Context(), 90*time.Second, "end of all machines", func(ctx context.Context) error {
		known, err := instances(ctx, s)
		if err != nil {
			return err
		}
		paid := shared.cloud.Machines()
		if len(known) > 0 || len(paid) > 0 {
			return fmt.Errorf("the server has %d instances, the cloud %d machines: %w", len(known), len(paid), errNotYet)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// events are those of the server, oldest first, each with its time.
func events(t *testing.T, s *lab.Server) []api.Event {
	t.Helper()
	var out []api.Event
	if err := s.Call(context.WithoutCancel(t.Context()), "events/list", map[string]any{"limit": 100, "ascending": true}, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// timeline is what happened, with the seconds since the first of it.
func timeline(events []api.Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "%7.3f %s\n", e.RecordedAt.Sub(events[0].RecordedAt.Time).Seconds(), e.Message)
	}
	return b.String()
}

// between is the time from the first event with one text to the first with
// another; 0 if there are no such.
func between(events []api.Event, from, to string) time.Duration {
	at := func(text string) time.Time {
		for _, e := range events {
			if strings.Contains(e.Message, text) {
				return e.RecordedAt.Time
			}
		}
		return time.Time{}
	}
	first, second := at(from), at(to)
	if first.IsZero() || second.IsZero() {
		return 0
	}
	return second.Sub(first)
}
