//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"

	"dstack/protocol/api"
	"dstack/protocol/jobapi"
	"dstack/test/lab"
)

const (
	lines = 1_000_000
	// bodyLength makes the raw log a little over 200 MB.
	bodyLength = 190
)

// generator prints the lines of wantLog with busybox's awk.
var generator = fmt.Sprintf(`awk 'BEGIN { pad = sprintf("%%%ds", ""); gsub(" ", "x", pad); for (i = 0; i < %d; i++) printf "\033[3%%dm%%08d %%s\033[0m\n", i %% 8, i, pad }'`, bodyLength, lines)

// wantLog is what the pty gives (raw) and its plain form.
func wantLog() (raw, plain []byte) {
	pad := bytes.Repeat([]byte("x"), bodyLength)
	var r, p bytes.Buffer
	for i := range lines {
		fmt.Fprintf(&r, "\033[3%dm%08d %s\033[0m\r\n", i%8, i, pad)
		fmt.Fprintf(&p, "%08d %s\r\n", i, pad)
	}
	return r.Bytes(), p.Bytes()
}

// TestBigLog lets a job print 200 MB while the connection is cut three times
// and the shim and the server are killed. Both forms of the log arrive whole.
func TestBigLog(t *testing.T) {
	s := shared.server
	if _, err := s.Submit(t.Context(), "big-log", map[string]any{"image": lab.Busybox, "entrypoint": "/bin/sh -c", "commands": []string{"sleep 2; " + generator}}); err != nil {
		t.Fatal(err)
	}
	run, err := s.WaitRun(t.Context(), "big-log", time.Minute, "start", func(r api.Run) bool { return r.Status == api.RunRunning })
	if err != nil {
		t.Fatal(err)
	}
	machine := machineOf(t, run)
	raw := make(chan result, 1)
	go func() { raw <- readRaw(t.Context(), machine, run.LatestJobSubmission.ID) }()

	for i := range 3 {
		waitGrowth(t, run)
		if err := machine.CutConnections(t.Context()); err != nil {
			t.Errorf("cut %d: %v", i, err)
		}
	}
	waitGrowth(t, run)
	if err := machine.KillProcess(t.Context(), "dstack-shim serve"); err != nil {
		t.Error(err)
	}
	waitGrowth(t, run)
	if err := s.Kill(); err != nil {
		t.Error(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}

	run, err = s.Finish(t.Context(), "big-log", 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if run.Status != api.RunDone {
		t.Errorf("run is %s: %s", run.Status, text(run.LatestJobSubmission.TerminationReasonMessage))
	}
	wantRaw, wantPlain := wantLog()
	got, err := s.Logs(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, wantPlain) {
		t.Errorf("logs/poll gave %d bytes, want %d; first difference at %d", len(got), len(wantPlain), difference(got, wantPlain))
	}
	ws := <-raw
	if ws.err != nil {
		t.Errorf("logs_ws: %v", ws.err)
	}
	if ws.size != int64(len(wantRaw)) || ws.sum != sha256.Sum256(wantRaw) {
		t.Errorf("logs_ws gave %d bytes, want %d", ws.size, len(wantRaw))
	}
}

// waitGrowth waits until more of the run's log is stored, or the run is over.
func waitGrowth(t *testing.T, run api.Run) {
	t.Helper()
	before := logSize(t, run)
	err := lab.Wait(t.Context(), time.Minute, "growth of the log", func(ctx context.Context) error {
		now, err := shared.server.Run(ctx, *run.RunSpec.RunName)
		if err != nil {
			return err
		}
		if now.Status.Finished() || logSize(t, run) > before {
			return nil
		}
		return errNotReady
	})
	if err != nil {
		t.Error(err)
	}
}

// logSize is how many bytes of the run's log the server stored.
func logSize(t *testing.T, run api.Run) int64 {
	t.Helper()
	pattern := filepath.Join(shared.server.Dir, "server/projects/main/logs", *run.RunSpec.RunName, run.LatestJobSubmission.ID, "job.log")
	info, err := os.Stat(pattern)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Error(err)
		return 0
	}
	return info.Size()
}

// machineOf is the machine on which the run's job runs.
func machineOf(t *testing.T, run api.Run) *lab.Machine {
	t.Helper()
	for _, m := range shared.machines {
		if text(run.LatestJobSubmission.JobProvisioningData.Hostname) == m.IP {
			return m
		}
	}
	t.Fatalf("no machine has the job of %s", *run.RunSpec.RunName)
	return nil
}

type result struct {
	size int64
	sum  [sha256.Size]byte
	err  error
}

// readRaw reads /logs_ws of the job's agent to its end, through the socket in
// the task's folder on the machine.
func readRaw(ctx context.Context, machine *lab.Machine, job string) result {
	socket, err := machine.Path(ctx, "/root/.dstack/tasks/"+job+"/run/"+jobapi.Socket)
	if err != nil {
		return result{err: err}
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	conn, _, err := websocket.Dial( //nolint:bodyclose // the body belongs to the connection (coder/websocket, Dial)
		ctx, "ws://agent/logs_ws", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return result{err: fmt.Errorf("dial %s: %w", socket, err)}
	}
	defer conn.CloseNow()
	conn.SetReadLimit(-1)
	hash := sha256.New()
	var size int64
	for {
		kind, reader, err := conn.Reader(ctx)
		if err != nil {
			if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
				err = nil
			}
			return result{size: size, sum: [sha256.Size]byte(hash.Sum(nil)), err: err}
		}
		if kind != websocket.MessageBinary {
			return result{err: fmt.Errorf("a %s frame", kind)}
		}
		n, err := io.Copy(hash, reader)
		size += n
		if err != nil {
			return result{err: err}
		}
	}
}

func difference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// TestLogQuota has a server of its own: the quota is a setting of the server.
func TestLogQuota(t *testing.T) {
	machine, err := shared.lab.NewMachine(t.Context(), lab.MachineOptions{Images: []string{lab.Busybox}})
	if err != nil {
		t.Fatal(err)
	}
	s := lab.ServerFor(t, nil)
	if result, err := s.ApplyFleet(t.Context(), "lab", machine); err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	if _, err := s.Submit(t.Context(), "quota", map[string]any{"image": lab.Busybox, "commands": []string{generator}}); err != nil {
		t.Fatal(err)
	}
	run, err := s.Finish(t.Context(), "quota", 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if got := text(run.LatestJobSubmission.TerminationReason); run.Status != api.RunFailed || got != string(api.ReasonLogQuota) {
		t.Errorf("run is %s, reason %s", run.Status, got)
	}
	want := "Job log output exceeded the hourly quota of 52428800 bytes"
	if got := text(run.LatestJobSubmission.TerminationReasonMessage); got != want {
		t.Errorf("message %q, want %q", got, want)
	}
}
