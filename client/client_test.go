package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"dstack/protocol/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server and gives a client's view of project main on it.
func serve(t *testing.T, h http.HandlerFunc) *Project {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return connect(t, server.URL)
}

func connect(t *testing.T, baseURL string) *Project {
	t.Helper()
	c, err := New(baseURL, "token", Options{Patience: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.Project("main")
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // the reader may have gone
}

func TestRequest(t *testing.T) {
	t.Parallel()
	var got []string
	p := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got = append(got, fmt.Sprintf("%s %s %s %s %s %s", r.Method, r.URL.Path, r.Header.Get("Authorization"),
			r.Header.Get("X-Api-Version"), r.Header.Get("Content-Type"), body))
		answer(w, 200, "null")
	})
	ctx := t.Context()
	if err := p.StopRuns(ctx, []string{"a"}, true); err != nil {
		t.Error(err)
	}
	if _, err := p.GetProject(ctx); err != nil {
		t.Error(err)
	}
	if err := p.DeleteInstances(ctx, "f", []int{0, 2}); err != nil {
		t.Error(err)
	}
	want := []string{
		`POST /api/project/main/runs/stop Bearer token 0.22.5 application/json {"runs_names":["a"],"abort":true}`,
		`POST /api/projects/main/get Bearer token 0.22.5  `,
		`POST /api/project/main/fleets/delete_instances Bearer token 0.22.5 application/json {"name":"f","instance_nums":[0,2]}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		status     int
		body       string
		want, code string
	}{
		{"business", 400, `{"detail":[{"msg":"Run not found","code":"resource_not_exists"}]}`, "Run not found", api.CodeNotExists},
		{"wrong token", 403, `{"detail":{"msg":"Invalid token","code":null}}`,
			"Access to URL is denied. Please check your access token (Invalid token)", ""},
		{"business 403", 403, `{"msg":"Forbidden here","code":null}`,
			"Access to URL is denied. Please check your access token (Forbidden here)", ""},
		{"not found", 404, `{"detail":{"msg":"Not found","code":null}}`, "Status code 404 when requesting URL (Not found): the server has no project of this name, choose another one with --project", ""},
		{"validation", 422, `{"detail":[{"type":"missing","loc":["body","run_spec","configuration"],"msg":"required"},{"loc":["body"],"msg":"bad"}]}`,
			"Server validation error:\nrun_spec.configuration: required\nbody: bad", ""},
		{"proxy page", 400, `<html>`, "Unexpected error: status code 400 when requesting URL. Check the server logs", ""},
		{"storage", 503, `{"detail":{"msg":"The server can't reach its object storage.","code":"error"}}`, "The server can't reach its object storage.", "error"},
		{"overload", 503, `<html>`, "Unexpected error: status code 503 when requesting URL. Check the server logs", ""},
		{"crash", 500, `Internal Server Error`, "Unexpected error: status code 500 when requesting URL. Check the server logs", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := serve(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, tt.status, tt.body) })
			_, err := p.GetRun(t.Context(), "a")
			e, ok := errors.AsType[*APIError](err)
			if !ok {
				t.Fatalf("error %v is a %T", err, err)
			}
			want := strings.ReplaceAll(tt.want, "URL", p.base+"/api/project/main/runs/get")
			if diff := cmp.Diff(want, err.Error()); diff != "" || e.Code != tt.code || e.Status != tt.status {
				t.Errorf("code %q, status %d (-want +got):\n%s", e.Code, e.Status, diff)
			}
			if IsNotExist(err) != (tt.code == api.CodeNotExists) {
				t.Error("IsNotExist is wrong")
			}
		})
	}
}

func TestRetriesOnlyWhatMayBeRepeated(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	p := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			panic(http.ErrAbortHandler) // the connection breaks without an answer
		}
		answer(w, 200, `{"id":"1"}`)
	})
	if run, err := p.GetRun(t.Context(), "a"); err != nil || run.ID != "1" {
		t.Errorf("get: %v, %v", run.ID, err)
	}
	if n := calls.Load(); n != 2 {
		t.Errorf("get was called %d times, want 2", n)
	}
	calls.Store(0)
	_, err := p.ApplyRun(t.Context(), api.ApplyRunPlanRequest{})
	if _, ok := errors.AsType[*ConnectionError](err); !ok {
		t.Errorf("apply: %v, want a ConnectionError", err)
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("apply was called %d times, want 1", n)
	}
}

func TestServerDown(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := New(base, "token", Options{Patience: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.MyUser(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "Failed to connect to dstack server "+base+": ") {
		t.Errorf("error %v", err)
	}
}

func TestCancelledCallGivesTheCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("user had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	p := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil { // only then the server notices a lost client
			t.Error(err)
		}
		cancel(cause)
		<-r.Context().Done()
	})
	if _, err := p.GetRun(ctx, "a"); !errors.Is(err, cause) {
		t.Errorf("error %v, want the cause", err)
	}
}

func TestRedirectAndForeignAnswers(t *testing.T) {
	t.Parallel()
	moved := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://elsewhere/")
		w.WriteHeader(http.StatusMovedPermanently)
	})
	if _, err := moved.GetRun(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "redirects to https://elsewhere/") {
		t.Errorf("error %v", err)
	}
	page := serve(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, "<html>") })
	if _, err := page.GetRun(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "is a dstack server there?") {
		t.Errorf("error %v", err)
	}
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, `{"username":"x"}`) }),
	}}
	server.Start()
	t.Cleanup(server.Close)
	p := connect(t, "http+unix://"+url.PathEscape(socket)+"/")
	if user, err := p.MyUser(t.Context()); err != nil || user.Username != "x" {
		t.Errorf("%v, %v", user.Username, err)
	}
}

func TestNewRefusesBadURLs(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "localhost:3000", "ftp://x", "http://", "http+unix://%zz"} {
		if _, err := New(base, "", Options{}); err == nil {
			t.Errorf("%q was accepted", base)
		}
	}
}

func TestListRunsPages(t *testing.T) {
	t.Parallel()
	p := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var req api.ListRunsRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		page := make([]api.Run, 0, *req.Limit)
		start := 0
		if req.PrevRunID != nil {
			start = 100
		}
		for i := start; i < 130 && len(page) < *req.Limit; i++ {
			page = append(page, api.Run{ID: fmt.Sprint(i)})
		}
		body, err := json.Marshal(page)
		if err != nil {
			t.Error(err)
		}
		answer(w, 200, string(body))
	})
	for limit, want := range map[int]int{1: 1, 100: 100, 120: 120, 1000: 130} {
		runs, err := p.ListRuns(t.Context(), false, limit)
		if err != nil || len(runs) != want {
			t.Errorf("limit %d: %d runs, %v; want %d", limit, len(runs), err, want)
		}
	}
}
