package control_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/coder/websocket"
)

// visitor is a client that comes from within the agent.
func (f *fixture) visitor() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go f.server.Visit(there)
		return here, nil
	}}}
}

// TestVisit: a visitor gets the log, and nothing but the log.
func TestVisit(t *testing.T) {
	t.Parallel()
	f := serve(t)
	f.write("hello")
	for _, path := range []string{"/v1/events", "/v1/stop", "/"} {
		response, err := f.visitor().Post("http://localhost"+path, "application/json", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s, %v", path, response.Status, err)
		}
	}
	//nolint:bodyclose // the library says that it need not be closed
	conn, _, err := websocket.Dial(t.Context(), "ws://localhost/logs_ws", &websocket.DialOptions{HTTPClient: f.visitor()})
	if err != nil {
		t.Fatal(err)
	}
	f.finish()
	_, data, err := conn.Read(t.Context())
	if err != nil || string(data) != "hello" {
		t.Errorf("%q, %v", data, err)
	}
	if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("closed with %v", err)
	}
	f.wait()
	here, there := net.Pipe()
	f.server.Visit(there)
	if _, err := here.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a late visitor sees %v", err)
	}
}
