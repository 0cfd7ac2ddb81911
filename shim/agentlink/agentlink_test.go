package agentlink

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func folder(t *testing.T) (*Folder, string) {
	t.Helper()
	dir := t.TempDir()
	f, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOutcomeBelievesOnlyPlainSmallFiles(t *testing.T) {
	good := `{"state":"failed","exit_status":3}`
	tests := []struct {
		name  string
		make  func(t *testing.T, path string)
		found bool
	}{
		{"regular", func(t *testing.T, p string) { write(t, p, good) }, true},
		{"missing", func(*testing.T, string) {}, false},
		{"not final", func(t *testing.T, p string) { write(t, p, `{"state":"running"}`) }, false},
		{"no such state", func(t *testing.T, p string) { write(t, p, `{"state":"glorious"}`) }, false},
		{"impossible exit status", func(t *testing.T, p string) { write(t, p, `{"state":"done","exit_status":4000}`) }, false},
		{"torn", func(t *testing.T, p string) { write(t, p, good[:9]) }, false},
		{"huge", func(t *testing.T, p string) { write(t, p, good+strings.Repeat(" ", MaxStatus)) }, false},
		{"symbolic link out", func(t *testing.T, p string) {
			other := filepath.Join(t.TempDir(), "x")
			write(t, other, good)
			if err := os.Symlink(other, p); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"symbolic link inside", func(t *testing.T, p string) {
			write(t, p+".real", good)
			if err := os.Symlink("state.json.real", p); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"pipe without writer", func(t *testing.T, p string) {
			if err := syscall.Mkfifo(p, 0o600); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"folder", func(t *testing.T, p string) {
			if err := os.Mkdir(p, 0o700); err != nil {
				t.Fatal(err)
			}
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, dir := folder(t)
			tt.make(t, filepath.Join(dir, jobapi.StateFile))
			if got := f.Outcome(); (got != nil) != tt.found {
				t.Errorf("Outcome = %+v, want found %v", got, tt.found)
			}
		})
	}
}

func index(records ...any) []byte {
	var buf []byte
	for i := 0; i < len(records); i += 2 {
		buf = binary.BigEndian.AppendUint64(buf, uint64(records[i].(int)))
		buf = binary.BigEndian.AppendUint64(buf, uint64(records[i+1].(time.Time).UnixMicro()))
	}
	return buf
}

type piece struct {
	Text string
	At   time.Time
}

func TestLogPieces(t *testing.T) {
	now := t0.Add(time.Hour)
	tests := []struct {
		name  string
		index []byte
		from  int64
		want  []piece
	}{
		{"no index: now", nil, 0, []piece{{"0123456789", now}}},
		{"a change of time ends a piece", index(4, t0, 10, t0.Add(time.Second)), 0,
			[]piece{{"0123", t0}, {"456789", t0.Add(time.Second)}}},
		{"near times go together", index(2, t0, 4, t0.Add(time.Millisecond), 10, t0.Add(2*time.Millisecond)), 0,
			[]piece{{"0123456789", t0}}},
		{"start in the middle of a record", index(4, t0, 10, t0.Add(time.Second)), 2,
			[]piece{{"23", t0}, {"456789", t0.Add(time.Second)}}},
		{"an index that ends early", index(4, t0), 0, []piece{{"0123", t0}, {"456789", now}}},
		{"an index that goes backwards", index(4, t0, 3, t0.Add(time.Second), 10, t0.Add(time.Second)), 0,
			[]piece{{"0123", t0}, {"456789", t0.Add(time.Second)}}},
		{"an index from the future", index(10, now.Add(time.Hour)), 0, []piece{{"0123456789", now}}},
		{"an index from long ago", index(10, time.Unix(0, 0)), 0, []piece{{"0123456789", now}}},
		{"an index beyond the text", index(1<<40, t0), 0, []piece{{"0123456789", t0}}},
		{"a torn record", append(index(4, t0), 1, 2, 3), 0, []piece{{"0123", t0}, {"456789", now}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, dir := folder(t)
			write(t, filepath.Join(dir, jobapi.PlainLog), "0123456789")
			if tt.index != nil {
				write(t, filepath.Join(dir, jobapi.PlainIndex), string(tt.index))
			}
			log, err := f.OpenLog()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = log.Close() }()
			for round := range 2 { // the second starts over: seeking back works
				var got []piece
				buf := make([]byte, 100)
				for at := tt.from; ; {
					n, when, err := log.Read(buf, at, 100, now)
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, piece{string(buf[:n]), when.UTC()})
					at += int64(n)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("round %d (-want +got):\n%s", round, diff)
				}
			}
		})
	}
}

func TestClientRefusesLinkedSocket(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other.sock")
	l, err := net.Listen("unix", other)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	f, dir := folder(t)
	if err := os.Symlink(other, filepath.Join(dir, jobapi.Socket)); err != nil {
		t.Fatal(err)
	}
	if err := NewClient(f).Stop(t.Context(), jobapi.StopRequest{}); !errors.Is(err, ErrUnsafe) && !errors.Is(err, syscall.ELOOP) {
		t.Errorf("Stop through a link = %v", err)
	}
}

func TestClientEvents(t *testing.T) {
	f, dir := folder(t)
	l, err := net.Listen("unix", filepath.Join(dir, jobapi.Socket))
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan string, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "{\"status\":{\"state\":\"running\"}}\n\n{\"plain_size\":-5}\n{\"plain_size\":7}\n")
	})
	mux.HandleFunc("POST /v1/stop", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		stopped <- string(b)
		w.WriteHeader(http.StatusAccepted)
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	defer func() { _ = srv.Close(); <-served }()

	c := NewClient(f)
	var sizes []int64
	var states []jobapi.State
	connected := 0
	err = c.Events(context.Background(), func() { connected++ }, func(e jobapi.Event) {
		if e.Status != nil {
			states = append(states, e.Status.State)
			return
		}
		sizes = append(sizes, e.PlainSize)
	})
	if err != nil || connected != 1 {
		t.Fatalf("Events = %v, connected %d times", err, connected)
	}
	if diff := cmp.Diff([]int64{0, 7}, sizes); diff != "" {
		t.Errorf("sizes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]jobapi.State{jobapi.Running}, states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	if err := c.Stop(t.Context(), jobapi.StopRequest{Grace: 3, Reason: "r"}); err != nil {
		t.Fatal(err)
	}
	if got := <-stopped; !strings.Contains(got, `"grace":3`) {
		t.Errorf("stop body = %s", got)
	}
}

func TestWriteSpecReplacesWhatLiesThere(t *testing.T) {
	f, dir := folder(t)
	victim := filepath.Join(t.TempDir(), "victim")
	write(t, victim, "precious")
	if err := os.Symlink(victim, filepath.Join(dir, jobapi.SpecFile)); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteSpec(jobapi.Spec{JobID: "j"}, 0); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Errorf("victim = %q, %v", b, err)
	}
	if !f.HasSpec() {
		t.Error("HasSpec = false after WriteSpec")
	}
}

func TestUsageOfAHostileAgent(t *testing.T) {
	for line, ok := range map[string]bool{
		`{"usage":{"cpu_micro":1,"memory_bytes":2,"working_set_bytes":1,"gpus":[{"memory_bytes":1,"util_percent":100}]}}`: true,
		`{"usage":{"cpu_micro":-1}}`:                                            false,
		`{"usage":{"memory_bytes":-1}}`:                                         false,
		`{"usage":{"working_set_bytes":-1}}`:                                    false,
		`{"usage":{"no_connections_secs":-1}}`:                                  false,
		`{"usage":{"cpu_micro":1,"no_connections_secs":0}}`:                     true,
		`{"usage":{"gpus":[{"util_percent":101}]}}`:                             false,
		`{"usage":{"gpus":[{"memory_bytes":-5}]}}`:                              false,
		`{"usage":{"gpus":[` + strings.Repeat("{},", hostapi.MaxGPUs) + `{}]}}`: false,
	} {
		seen := 0
		err := readEvents(strings.NewReader(line+"\n"), func(jobapi.Event) { seen++ })
		if (err == nil) != ok || (seen == 1) != ok {
			t.Errorf("%.60s: %v, seen %d", line, err, seen)
		}
	}
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte("{\"status\":{\"state\":\"running\",\"exit_status\":3}}\n{\"plain_size\":7}\n"))
	f.Add([]byte(`{"usage":{"cpu_micro":1,"gpus":[{"util_percent":-1}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = readEvents(bytes.NewReader(data), func(e jobapi.Event) {
			if e.PlainSize < 0 {
				t.Fatal("negative size")
			}
			if e.Status != nil && len(e.Status.Message) > maxText {
				t.Fatal("long message")
			}
			if e.Usage != nil && (e.Usage.MemoryBytes < 0 || len(e.Usage.GPUs) > hostapi.MaxGPUs) {
				t.Fatal("impossible usage")
			}
		})
	})
}

// memory is a file that is none.
type memory struct{ io.ReaderAt }

func (memory) Close() error { return nil }

func FuzzIndex(f *testing.F) {
	f.Add(index(4, t0, 10, t0.Add(time.Second)), int64(0))
	f.Fuzz(func(t *testing.T, idx []byte, from int64) {
		log := &Log{text: memory{strings.NewReader("0123456789")}, index: memory{bytes.NewReader(idx)}}
		buf := make([]byte, 4)
		got := ""
		from = max(0, min(from, 10))
		for at := from; at < 10; {
			n, _, err := log.Read(buf, at, 10, t0)
			if err != nil || n == 0 {
				t.Fatalf("Read at %d = %d, %v", at, n, err)
			}
			got += string(buf[:n])
			at += int64(n)
		}
		if got != "0123456789"[from:] {
			t.Fatalf("got %q", got)
		}
	})
}

func TestAnswers(t *testing.T) {
	dir := t.TempDir()
	if Answers(t.Context(), dir) {
		t.Error("an empty folder answers")
	}
	other, err := net.Listen("unix", filepath.Join(t.TempDir(), "other.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := os.Symlink(other.Addr().String(), filepath.Join(dir, jobapi.Socket)); err != nil {
		t.Fatal(err)
	}
	if Answers(t.Context(), dir) {
		t.Error("a link to another socket answers")
	}
	if err := os.Remove(filepath.Join(dir, jobapi.Socket)); err != nil {
		t.Fatal(err)
	}
	agent, err := net.Listen("unix", filepath.Join(dir, jobapi.Socket))
	if err != nil {
		t.Fatal(err)
	}
	if !Answers(t.Context(), dir) {
		t.Error("an agent that listens does not answer")
	}
	if err := agent.Close(); err != nil {
		t.Fatal(err)
	}
	if Answers(t.Context(), dir) {
		t.Error("an agent that is gone answers")
	}
}
