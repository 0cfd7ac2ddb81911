package fluentbit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tinylib/msgp/msgp"
	"go.uber.org/goleak"

	"dstack/controller/logs"
	"dstack/controller/logs/ship"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

func batch(n int) ship.Batch {
	b := ship.Batch{Key: logs.Key{Project: "main", Run: "train", JobID: "0a79"}, Batch: logs.Batch{First: logs.Mark{Event: 7}}}
	for i := range n {
		b.Events = append(b.Events, logs.Event{At: time.UnixMicro(1_700_000_000_000_001 + int64(i)), Data: fmt.Append(nil, i, "\xff")})
	}
	return b
}

// receiver answers each message with answer, on a port of its own.
func receiver(t *testing.T, answer func(message []byte) []byte) (Options, <-chan []byte) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			var raw msgp.Raw
			if err := raw.DecodeMsg(msgp.NewReader(conn)); err == nil {
				got <- raw
				_, _ = conn.Write(answer(raw))
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	address, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("no address")
	}
	return Options{Host: "127.0.0.1", Port: address.Port, Protocol: Forward, Prefix: "dstack"}, got
}

// ack is {"x": [1], "ack": id}.
func ack(id string) []byte {
	b := msgp.AppendMapHeader(nil, 2)
	b = msgp.AppendInt(msgp.AppendArrayHeader(msgp.AppendString(b, "x"), 1), 1)
	return msgp.AppendString(msgp.AppendString(b, "ack"), id)
}

const chunk = "MGE3OS1qb2ItNw==" // 0a79-job-7

func TestForward(t *testing.T) {
	t.Parallel()
	opts, got := receiver(t, func([]byte) []byte { return ack(chunk) })
	r := New(opts)
	if err := r.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	n, err := r.Put(t.Context(), batch(2))
	if n != 2 || err != nil {
		t.Fatal(n, err)
	}
	var text bytes.Buffer
	if _, err := msgp.UnmarshalAsJSON(&text, <-got); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`["dstack.main.train.0a79.job",[[`, `{"message":"0` + "\uFFFD" + `","@timestamp":"2023-11-14T22:13:20.000001Z","stream":"main/train/0a79/job"}`,
		`{"chunk":"` + chunk + `","size":2}]`,
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s\nlacks %s", text.String(), want)
		}
	}
	// 100 at once, and no more than a MiB.
	if n, err := r.Put(t.Context(), batch(250)); n != maxEvents || err != nil {
		t.Error(n, err)
	}
	large := batch(10)
	for i := range large.Events {
		large.Events[i].Data = bytes.Repeat([]byte("x"), 300<<10)
	}
	if n, err := r.Put(t.Context(), large); n != 3 || err != nil {
		t.Error(n, err)
	}
}

func TestForwardFails(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer []byte
		want   string
	}{
		"closed":      {nil, "wait for its acknowledgement: EOF"},
		"another ack": {ack("x"), `it acknowledged "x" instead of`},
		"no ack":      {msgp.AppendMapHeader(nil, 0), `it acknowledged "" instead of`},
		"no protocol": {[]byte("HTTP/1.1 400 Bad Request"), "wait for its acknowledgement"},
	} {
		opts, _ := receiver(t, func([]byte) []byte { return tt.answer })
		if n, err := New(opts).Put(t.Context(), batch(1)); n != 0 || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	release := make(chan struct{})
	opts, _ := receiver(t, func([]byte) []byte {
		<-release
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := New(opts).Put(ctx, batch(1)); err == nil || !strings.Contains(err.Error(), "did not acknowledge within 10s; its input must be forward") {
		t.Errorf("silence: %v", err)
	}
	close(release)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err = errors.Join(err, closed.Close()); err != nil {
		t.Fatal(err)
	}
	if address, ok := closed.Addr().(*net.TCPAddr); ok {
		opts.Port = address.Port
	}
	err = New(opts).Check(t.Context())
	if _, away := errors.AsType[*ship.UnreachableError](err); !away || !strings.Contains(err.Error(), "Fluent Bit at forward://127.0.0.1:") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	status := http.StatusCreated
	var path string
	var records []record
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.Path
		if err := json.NewDecoder(r.Body).Decode(&records); err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	address, ok := server.Listener.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("no address")
	}
	r := New(Options{Host: "127.0.0.1", Port: address.Port, Protocol: HTTP, Prefix: "p"})
	if n, err := r.Put(t.Context(), batch(2)); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if path != "/p.main.train.0a79.job" || len(records) != 2 || records[1].Message != "1\uFFFD" || records[1].Stream != "main/train/0a79/job" {
		t.Errorf("%s: %+v", path, records)
	}
	status = http.StatusInternalServerError
	if _, err := r.Put(t.Context(), batch(1)); err == nil || !strings.Contains(err.Error(), "it answered 500 Internal Server Error") {
		t.Errorf("%v", err)
	}
}

func TestAckOfHugeLength(t *testing.T) {
	huge := []byte{0x81, 0xdb, 0xff, 0xff, 0xff, 0xff} // a name of 4 GiB
	if _, err := readAck(bytes.NewReader(huge)); !errors.Is(err, msgp.ErrLimitExceeded) {
		t.Errorf("error %v", err)
	}
}

func FuzzReadAck(f *testing.F) {
	f.Add(ack("x"))
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, data []byte) {
		id, err := readAck(bytes.NewReader(data))
		if err == nil && len(id) > len(data) {
			t.Errorf("%q out of %q", id, data)
		}
	})
}
