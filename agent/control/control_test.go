package control_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"dstack/agent/control"
	"dstack/agent/ptylog"
	"dstack/agent/state"
	"dstack/protocol/jobapi"
)

func TestMain(m *testing.M) {
	// net/http lingers half a second after a request that was too large.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// fakeMeter tells what the test says.
type fakeMeter struct {
	mu   sync.Mutex
	last *jobapi.Usage
	next chan struct{}
}

func (m *fakeMeter) Get() (*jobapi.Usage, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last, m.next
}

func (m *fakeMeter) measured(u jobapi.Usage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = &u
	close(m.next)
	m.next = make(chan struct{})
}

// fixture is a served job whose state and log the test writes.
type fixture struct {
	t      *testing.T
	dir    string
	state  *state.Keeper
	log    *ptylog.Log
	meter  *fakeMeter
	stops  chan jobapi.StopRequest
	server *control.Server
	// end ends the job, release the wait for its readers.
	end, release context.CancelFunc
	done         chan error
}

func serve(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	log, err := ptylog.Create(dir, 0, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	l, err := control.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, dir: dir, state: state.New(dir), log: log, meter: &fakeMeter{next: make(chan struct{})}, stops: make(chan jobapi.StopRequest, 9), done: make(chan error, 1)}
	f.set(jobapi.Status{State: jobapi.Running})
	linger, release := context.WithCancel(context.Background())
	ctx, end := context.WithCancel(linger)
	f.end, f.release = end, release
	s := control.New(f.state, log, f.meter, func(r jobapi.StopRequest) { f.stops <- r }, zerolog.Nop())
	f.server = s
	go func() { f.done <- s.Run(ctx, linger, l, func() time.Duration { return 0 }) }()
	t.Cleanup(func() {
		release()
		f.wait()
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) wait() {
	f.t.Helper()
	if err := <-f.done; err != nil {
		f.t.Error(err)
	}
	f.done <- nil
}

func (f *fixture) set(s jobapi.Status) {
	f.t.Helper()
	if err := f.state.Set(s); err != nil {
		f.t.Error(err)
	}
}

func (f *fixture) write(text string) {
	f.t.Helper()
	if _, err := io.WriteString(f.log, text); err != nil {
		f.t.Error(err)
	}
}

// finish ends the job as the agent does.
func (f *fixture) finish() {
	f.t.Helper()
	if err := f.log.Finish(); err != nil {
		f.t.Error(err)
	}
	f.set(jobapi.Status{State: jobapi.Done})
	f.end()
}

func (f *fixture) client() *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(f.dir, jobapi.Socket))
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
}

// events opens the stream and returns a function for the next event.
func (f *fixture) events() func() (jobapi.Event, bool) {
	f.t.Helper()
	response, err := f.client().Get("http://agent/v1/events")
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := response.Body.Close(); err != nil {
			f.t.Error(err)
		}
	})
	lines := bufio.NewScanner(response.Body)
	return func() (e jobapi.Event, ok bool) {
		if !lines.Scan() {
			return e, false
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			f.t.Error(err)
		}
		return e, true
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	f := serve(t)
	f.write("12345")
	next := f.events()
	first, _ := next()
	want := jobapi.Event{Status: &jobapi.Status{State: jobapi.Running}, PlainSize: 5}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("first event (-want +got):\n%s", diff)
	}
	f.write("\x1b[1m")
	f.write("6")
	var e jobapi.Event
	for e.PlainSize < 6 {
		e, _ = next()
	}
	if diff := cmp.Diff(jobapi.Event{PlainSize: 6}, e); diff != "" {
		t.Errorf("size event (-want +got):\n%s", diff)
	}
	f.write("78")
	f.finish()
	for ok := true; ok; {
		var got jobapi.Event
		if got, ok = next(); ok {
			e = got
		}
	}
	want = jobapi.Event{Status: &jobapi.Status{State: jobapi.Done}, PlainSize: 8}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("last event (-want +got):\n%s", diff)
	}
	f.wait()
}

// TestUsageEvents sees each measurement once, and the last one at the start.
func TestUsageEvents(t *testing.T) {
	t.Parallel()
	f := serve(t)
	f.meter.measured(jobapi.Usage{CPUMicro: 1})
	next := f.events()
	for _, want := range []int64{1, 2, 3} {
		e, ok := next()
		if !ok || e.Usage == nil || e.Usage.CPUMicro != want {
			t.Fatalf("event %+v, want measurement %d", e, want)
		}
		f.meter.measured(jobapi.Usage{CPUMicro: want + 1})
	}
	f.finish()
	for e, ok := next(); ok; e, ok = next() {
		if e.Usage != nil && e.Usage.CPUMicro != 4 {
			t.Errorf("told again: %+v", e.Usage)
		}
	}
}

func TestManyWritesAreFewEvents(t *testing.T) {
	t.Parallel()
	f := serve(t)
	next := f.events()
	begin := time.Now()
	if _, ok := next(); !ok {
		t.Fatal("no event")
	}
	for range 10000 {
		f.write("x")
	}
	f.finish()
	took := time.Since(begin)
	n := 0
	for ok := true; ok; n++ {
		_, ok = next()
	}
	if most := int(took/(50*time.Millisecond)) + 4; n > most {
		t.Errorf("%d events within %v", n, took)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	f := serve(t)
	tests := []struct {
		body   string
		status int
	}{
		{`{"grace":3,"kill":true,"reason":"r","message":"m"}`, http.StatusAccepted},
		{`{}`, http.StatusAccepted},
		{`{`, http.StatusBadRequest},
		{`{"grace":-1}`, http.StatusBadRequest},
		{`{"reason":"` + strings.Repeat("x", 70000) + `"}`, http.StatusBadRequest},
	}
	for _, tt := range tests {
		response, err := f.client().Post("http://agent/v1/stop", "application/json", strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
		if response.StatusCode != tt.status {
			t.Errorf("stop %.40s: %s", tt.body, response.Status)
		}
	}
	want := []jobapi.StopRequest{{Grace: 3, Kill: true, Reason: "r", Message: "m"}, {}}
	if diff := cmp.Diff(want, []jobapi.StopRequest{<-f.stops, <-f.stops}); diff != "" || len(f.stops) > 0 {
		t.Errorf("%d more requests, (-want +got):\n%s", len(f.stops), diff)
	}
}

// reader connects to /logs_ws as any web page might.
func (f *fixture) reader(query string) *websocket.Conn {
	f.t.Helper()
	//nolint:bodyclose // the library says that it need not be closed
	conn, response, err := websocket.Dial(context.Background(), "ws://localhost/logs_ws"+query, &websocket.DialOptions{
		HTTPClient: f.client(), HTTPHeader: http.Header{"Origin": {"https://elsewhere.example"}},
	})
	if err != nil {
		f.t.Fatalf("%v, %v", err, response)
	}
	f.t.Cleanup(func() { _ = conn.CloseNow() }) // most are closed by then
	return conn
}

// rest returns everything that a reader still gets and how it was closed.
func rest(t *testing.T, conn *websocket.Conn) (string, websocket.StatusCode) {
	t.Helper()
	var all bytes.Buffer
	for {
		kind, data, err := conn.Read(context.Background())
		if err != nil {
			return all.String(), websocket.CloseStatus(err)
		}
		if kind != websocket.MessageBinary {
			t.Errorf("frame of type %v", kind)
		}
		all.Write(data)
	}
}

func TestReadersGetTheWholeRawLog(t *testing.T) {
	t.Parallel()
	f := serve(t)
	f.write("\x1b[1mfirst\r\n")
	early, since := f.reader(""), f.reader("?start_time=2000-01-02T03:04:05.678+02:00")
	if _, data, err := early.Read(context.Background()); err != nil || string(data) != "\x1b[1mfirst\r\n" {
		t.Errorf("first frame %q, %v", data, err)
	}
	pinged := make(chan error, 1)
	go func() { pinged <- early.Ping(context.Background()) }()
	big := strings.Repeat("0123456789abcdef", 1<<16)
	f.write(big)
	late := f.reader("?start_time=2999-01-02T03:04:05Z")
	f.write("last")
	f.finish()
	for name, c := range map[string]struct {
		conn *websocket.Conn
		want string
	}{"early": {early, big + "last"}, "since": {since, "\x1b[1mfirst\r\n" + big + "last"}} {
		got, code := rest(t, c.conn)
		if got != c.want || code != websocket.StatusNormalClosure {
			t.Errorf("%s reader got %d bytes of %d, code %v", name, len(got), len(c.want), code)
		}
	}
	if got, code := rest(t, late); code != websocket.StatusNormalClosure || !strings.HasSuffix("last", got) {
		t.Errorf("late reader got %q, code %v", got, code)
	}
	if err := <-pinged; err != nil {
		t.Errorf("ping: %v", err)
	}
	f.wait()
}

func TestBadStartTime(t *testing.T) {
	t.Parallel()
	f := serve(t)
	for _, query := range []string{"?start_time=yesterday", "?start_time=2024-01-01"} {
		if got, code := rest(t, f.reader(query)); code != websocket.StatusUnsupportedData || got != "" {
			t.Errorf("%s: %q, code %v", query, got, code)
		}
	}
}

func TestReleaseDropsReadersThatStandStill(t *testing.T) {
	t.Parallel()
	f := serve(t)
	f.write(strings.Repeat("x", 16<<20)) // more than the sockets hold
	f.reader("")
	f.finish()
	f.release()
	f.wait()
}

func TestReaderGoesAway(t *testing.T) {
	t.Parallel()
	f := serve(t)
	conn := f.reader("")
	if err := conn.CloseNow(); err != nil {
		t.Error(err)
	}
	f.finish()
	f.wait()
}

func TestListen(t *testing.T) {
	t.Parallel()
	deep := t.TempDir()
	for range 3 {
		deep = filepath.Join(deep, strings.Repeat("d", 60))
	}
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{t.TempDir(), deep} {
		for range 2 { // the second time there is the first one's socket
			l, err := control.Listen(dir)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(filepath.Join(dir, jobapi.Socket)); err != nil || info.Mode() != os.ModeSocket|0o600 {
				t.Errorf("%v, %v", info, err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
