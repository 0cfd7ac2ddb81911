package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"dstack/protocol/hostapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHomeIsForOneShim(t *testing.T) {
	// Longer than a socket's address: both sides go through a descriptor.
	path := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	h, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open = %v", err)
	}
	id, err := h.ID()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := h.ID(); again != id || err != nil {
		t.Errorf("ID = %q, then %q, %v", id, again, err)
	}
	if other, err := h.NewID(); other == id || err != nil {
		t.Errorf("NewID = %q, %v", other, err)
	}
	l, err := h.Listen()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"": 0o700, hostapi.SocketName: 0o600, "host-id": 0o600} {
		if info, err := os.Stat(h.File(name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v, %v", name, info, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, r.Proto)
		}))
	})
	for _, http2 := range []bool{false, true} {
		var p http.Protocols
		p.SetHTTP1(!http2)
		p.SetUnencryptedHTTP2(http2)
		tr := &http.Transport{Protocols: &p, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, path) }}
		resp, err := (&http.Client{Transport: tr}).Get("http://shim/")
		if err != nil {
			t.Fatal(err)
		}
		if (resp.ProtoMajor == 2) != http2 {
			t.Errorf("HTTP/2 %v: answer in %s", http2, resp.Proto)
		}
		_ = resp.Body.Close()
		tr.CloseIdleConnections()
	}
	cancel()
	if err := errors.Join(g.Wait(), h.Close()); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path) // the lock went with its holder
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestParseEnv(t *testing.T) {
	got := parseEnv("# x\nA=\"b c\"\n\nB=plain\nC=\"q\\\"q\"\nnothing\n=x\n")
	if diff := cmp.Diff([]string{"A=b c", "B=plain", `C=q"q`}, got); diff != "" {
		t.Errorf("parseEnv (-want +got):\n%s", diff)
	}
}

// script is a "shim" for the supervisor.
func script(t *testing.T, home, text string) string {
	t.Helper()
	path := filepath.Join(home, "fake")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSuperviseStartsAgainUntilUninstalled(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, hostapi.EnvName), []byte(`MARK="from the file"`), 0o600); err != nil {
		t.Fatal(err)
	}
	path := script(t, home, `echo "$MARK $*" >>`+home+`/runs; [ $(wc -l <`+home+`/runs) -lt 2 ] && kill -9 $$; exit 64`)
	if err := Supervise(t.Context(), home, path, []string{"--home", home}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	runs, err := os.ReadFile(filepath.Join(home, "runs"))
	if want := strings.Repeat("from the file serve --supervised --home "+home+"\n", 2); err != nil || string(runs) != want {
		t.Errorf("runs = %q, %v", runs, err)
	}
	if pid, err := os.ReadFile(filepath.Join(home, hostapi.PIDName)); err != nil || strings.TrimSpace(string(pid)) != fmt.Sprint(os.Getpid()) {
		t.Errorf("pid file = %q, %v", pid, err)
	}
}

func TestStopTakesTheHomeFromAnother(t *testing.T) {
	if h, err := Stop(t.Context(), filepath.Join(t.TempDir(), "none")); h != nil || err != nil {
		t.Errorf("Stop without a home = %v, %v", h, err)
	}
	// Nobody says who holds it, so nobody is killed: the wait ends with ctx.
	held, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Stop(ctx, held.Path); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop of a stranger = %v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	taken, err := Stop(t.Context(), held.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
}
