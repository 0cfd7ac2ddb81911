package controller

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
)

// TestJobListener serves requests of jobs, and nobody after its end.
func TestJobListener(t *testing.T) {
	t.Parallel()
	l := newJobListener()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "at "+r.URL.Path)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	job, ours := net.Pipe()
	l.deliver(ours)
	buf := bufio.NewReader(job)
	for _, path := range []string{"/one", "/two"} {
		if _, err := io.WriteString(job, "GET "+path+" HTTP/1.1\r\nHost: job\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(buf, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil || string(body) != "at "+path {
			t.Errorf("%s, %v", body, err)
		}
	}
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	late, theirs := net.Pipe()
	l.deliver(theirs)
	if _, err := late.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a connection after the end: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) || l.Addr().Network()+l.Addr().String() != "jobjob" {
		t.Errorf("accept after the end: %v", err)
	}
}
