package gcplogging

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dstack/controller/logs"
	"dstack/controller/logs/gcplogging/gcptest"
	"dstack/controller/logs/ship"
)

var key = logs.Key{Project: "main", Run: "train", JobID: "0a79"}

func at(ms int) time.Time { return time.UnixMilli(1_700_000_000_000 + int64(ms)).UTC() }

func open(t *testing.T, d *gcptest.Double) *Log {
	t.Helper()
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	l, err := Open(t.Context(), Options{Project: "p", Endpoint: server.URL, Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func put(t *testing.T, l *Log, events []logs.Event) {
	t.Helper()
	for len(events) > 0 {
		n, err := l.Put(t.Context(), ship.Batch{Key: key, Batch: logs.Batch{Events: events}})
		if err != nil || n == 0 {
			t.Fatal(n, err)
		}
		events = events[n:]
	}
}

func read(t *testing.T, l *Log, opts logs.PollOptions) string {
	t.Helper()
	var text strings.Builder
	for {
		page, err := l.Poll(t.Context(), key, opts)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Events) > opts.Limit {
			t.Fatalf("%d events of %d", len(page.Events), opts.Limit)
		}
		for _, e := range page.Events {
			text.Write(e.Data)
		}
		if opts.Token = page.Next; opts.Token == "" {
			return strings.TrimSpace(text.String())
		}
	}
}

func TestWriteAndRead(t *testing.T) {
	t.Parallel()
	l := open(t, &gcptest.Double{Page: 3})
	var events []logs.Event
	for i := range 10 {
		events = append(events, logs.Event{At: at(10 * i), Offset: int64(2 * i), Data: []byte(fmt.Sprint(i, " "))})
	}
	put(t, l, events[:6])
	put(t, l, events[3:]) // again: dropped by their ids
	ptr := func(ms int) *time.Time { t := at(ms); return &t }
	for name, tt := range map[string]struct {
		opts logs.PollOptions
		want string
	}{
		"all":               {logs.PollOptions{}, "0 1 2 3 4 5 6 7 8 9"},
		"descending":        {logs.PollOptions{Descending: true}, "9 8 7 6 5 4 3 2 1 0"},
		"start is excluded": {logs.PollOptions{Start: ptr(30)}, "4 5 6 7 8 9"},
		"end is excluded":   {logs.PollOptions{End: ptr(30)}, "0 1 2"},
		"end is included":   {logs.PollOptions{End: ptr(30), Descending: true}, "3 2 1 0"},
		"nothing":           {logs.PollOptions{Start: ptr(30), End: ptr(30)}, ""},
	} {
		for _, limit := range []int{1, 2, 5, 10, 100} {
			tt.opts.Limit = limit
			if got := read(t, l, tt.opts); got != tt.want {
				t.Errorf("%s, limit %d: %q, want %q", name, limit, got, tt.want)
			}
		}
	}
	for _, token := range []string{"x", "12"} {
		if _, err := l.Poll(t.Context(), key, logs.PollOptions{Limit: 1, Token: token}); !errors.Is(err, logs.ErrBadToken) {
			t.Errorf("token %s: %v", token, err)
		}
	}
}

// TestParts: what is too large for an entry comes back whole, in both orders.
func TestParts(t *testing.T) {
	t.Parallel()
	l := open(t, &gcptest.Double{Page: 2})
	large := strings.Repeat("\u20ac", 21<<10) // 63 KiB
	put(t, l, []logs.Event{{At: at(0), Data: []byte("a ")}, {At: at(1), Offset: 2, Data: []byte(large)}, {At: at(2), Offset: 2 + int64(len(large)), Data: []byte(" b")}})
	for _, limit := range []int{1, 2, 10} {
		if got := read(t, l, logs.PollOptions{Limit: limit}); got != "a "+large+" b" {
			t.Errorf("limit %d: %d bytes", limit, len(got))
		}
		if got := read(t, l, logs.PollOptions{Limit: limit, Descending: true}); got != "b"+large+"a" {
			t.Errorf("limit %d, descending: %d bytes: %.20q", limit, len(got), got)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{
		http.StatusOK: "", http.StatusUnauthorized: "does not accept the credentials", http.StatusForbidden: "give them roles/logging.logWriter",
		http.StatusNotFound: "the project does not exist; correct DSTACK_SERVER_GCP_LOGGING_PROJECT", http.StatusServiceUnavailable: "can't be reached, or fails",
	} {
		err := open(t, &gcptest.Double{Status: status}).Check(t.Context())
		_, away := errors.AsType[*ship.UnreachableError](err)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) || away != (status == http.StatusServiceUnavailable) {
			t.Errorf("%d: %v", status, err)
		}
	}
	_, err := open(t, &gcptest.Double{Status: http.StatusTooManyRequests}).Poll(t.Context(), key, logs.PollOptions{Limit: 1})
	if err == nil || !strings.Contains(err.Error(), "GCP Logging read request limit exceeded") {
		t.Errorf("%v", err)
	}
	_, err = Open(t.Context(), Options{Project: "p", Getenv: func(string) string { return "{secret" }})
	if err == nil || !strings.Contains(err.Error(), "GOOGLE_APPLICATION_CREDENTIALS_JSON is no JSON") || strings.Contains(err.Error(), "{secret") {
		t.Errorf("%v", err)
	}
}
