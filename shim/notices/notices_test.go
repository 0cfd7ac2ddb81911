package notices

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"dstack/protocol/hostapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// metadata is AWS's metadata service, version 2 only.
type metadata struct {
	mu     sync.Mutex
	token  string
	texts  map[string]string
	date   string
	fails  bool
	tokens int
}

func (m *metadata) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func (m *metadata) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.date != "" {
		w.Header().Set("Date", m.date)
	}
	text, known := m.texts[r.URL.Path]
	switch {
	case m.fails:
		w.WriteHeader(http.StatusInternalServerError)
	case r.Method == http.MethodPut && r.URL.Path == pathToken:
		if r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") != "21600" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		m.tokens++
		_, _ = w.Write([]byte(m.token))
	case r.Header.Get("X-Aws-Ec2-Metadata-Token") != m.token:
		w.WriteHeader(http.StatusUnauthorized)
	case !known:
		w.WriteHeader(http.StatusNotFound)
	default:
		_, _ = w.Write([]byte(text))
	}
}

// direct serves requests without a network, so that time can be virtual.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

func TestNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &metadata{token: "t1", texts: map[string]string{}}
		w := &Watcher{Base: "http://metadata", HTTP: &http.Client{Transport: direct{m}}, Every: Every, Now: time.Now, Log: zerolog.Nop()}
		told := make(chan hostapi.Notice, 10)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.Run(ctx, func(n hostapi.Notice) { told <- n }); err != nil {
				t.Error(err)
			}
		})
		quiet := func(d time.Duration) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if len(told) > 0 {
				t.Fatalf("told %+v", <-told)
			}
		}
		soon := func() hostapi.Notice {
			t.Helper()
			begin := time.Now()
			n := <-told
			if d := time.Since(begin); d > Every {
				t.Errorf("told after %v", d)
			}
			return n
		}
		quiet(time.Minute)

		m.set(func() { m.fails = true })
		quiet(10 * time.Second)
		m.set(func() { m.fails = false; m.token = "t2" }) // the old token is not good any more
		m.set(func() { m.texts[pathRebalance] = `{"noticeTime": "2000-01-01T00:00:00Z"}` })
		if n := soon(); n.Kind != hostapi.NoticeRebalance || !n.Ends.IsZero() {
			t.Errorf("told %+v", n)
		}
		quiet(time.Minute)

		// AWS's clock is an hour ahead of the host's.
		aws := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
		m.set(func() {
			m.date = aws.Format(http.TimeFormat)
			m.texts[pathAction] = `{"action": "terminate", "time": "` + aws.Add(2*time.Minute).Format(time.RFC3339) + `"}`
		})
		n := soon()
		if left := time.Until(n.Ends); n.Kind != hostapi.NoticeInterruption || left < 115*time.Second || left > 2*time.Minute {
			t.Errorf("told %+v, %v before the end", n, left)
		}
		quiet(time.Minute)
		cancel()
		wg.Wait()
		if m.tokens != 2 {
			t.Errorf("%d tokens", m.tokens)
		}
	})
}

func TestNoticeThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &metadata{token: "t", texts: map[string]string{pathAction: "soon"}}
		w := &Watcher{Base: "http://metadata", HTTP: &http.Client{Transport: direct{m}}, Every: Every, Now: time.Now, Log: zerolog.Nop()}
		ctx, cancel := context.WithCancel(t.Context())
		var got hostapi.Notice
		if err := w.Run(ctx, func(n hostapi.Notice) { got = n; cancel() }); err != nil {
			t.Error(err)
		}
		if got.Kind != hostapi.NoticeInterruption || !got.Ends.IsZero() {
			t.Errorf("told %+v", got)
		}
	})
}

// Over real HTTP, as the shim asks.
func TestRealHTTP(t *testing.T) {
	m := &metadata{token: "t", texts: map[string]string{pathAction: `{"action":"terminate","time":"2030-01-01T00:00:00Z"}`}}
	s := httptest.NewServer(m)
	defer s.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithCancel(t.Context())
	w := &Watcher{Base: s.URL, HTTP: &http.Client{Transport: transport}, Every: time.Hour, Now: time.Now, Log: zerolog.Nop()}
	var got hostapi.Notice
	if err := w.Run(ctx, func(n hostapi.Notice) { got = n; cancel() }); err != nil || got.Kind != hostapi.NoticeInterruption {
		t.Errorf("told %+v, %v", got, err)
	}
}

func FuzzParseAction(f *testing.F) {
	f.Add(`{"action":"terminate","time":"2017-09-18T08:22:00Z"}`)
	f.Add(`{"action":"stop"}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, text string) {
		if at, err := parseAction(text); err != nil && !at.IsZero() {
			t.Errorf("%q: %v and %v", text, at, err)
		}
	})
}
