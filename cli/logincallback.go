package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// callback waits on a port of this machine for the browser to come back from
// a login.
type callback struct {
	port    int
	server  *http.Server
	answers chan browserAnswer
	served  chan struct{}
}

// browserAnswer is what the browser brought. The page that it sees depends on
// what is sent to done.
type browserAnswer struct {
	code, state string
	done        chan<- error
}

func listenForCallback(ctx context.Context) (*callback, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the browser: %w", err)
	}
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return nil, errors.Join(errors.New("listen for the browser: no TCP address"), listener.Close())
	}
	b := &callback{port: address.Port, answers: make(chan browserAnswer), served: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /auth/callback", b.serve)
	b.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(b.served)
		_ = b.server.Serve(listener) // ends with close
	}()
	return b, nil
}

func (b *callback) serve(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	done := make(chan error, 1)
	answer := browserAnswer{query.Get("code"), query.Get("state"), done}
	if answer.code == "" || answer.state == "" {
		page(w, http.StatusBadRequest, "CLI authentication failed", "The login gave no code.")
		return
	}
	select {
	case b.answers <- answer:
	case <-r.Context().Done():
		return
	}
	select {
	case err := <-done:
		if err != nil {
			page(w, http.StatusBadRequest, "CLI authentication failed", "See the terminal for the reason.")
			return
		}
		page(w, http.StatusOK, "CLI authentication completed", "You can close this page and go back to the terminal.")
	case <-r.Context().Done():
	}
}

func page(w http.ResponseWriter, status int, title, text string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<!doctype html><title>dstack</title><h1>%s</h1><p>%s</p>\n", title, text)
}

func (b *callback) wait(ctx context.Context) (browserAnswer, error) {
	select {
	case answer := <-b.answers:
		return answer, nil
	case <-ctx.Done():
		return browserAnswer{}, context.Cause(ctx)
	}
}

// close lets the browser read its page, and stops.
func (b *callback) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if b.server.Shutdown(ctx) != nil {
		_ = b.server.Close()
	}
	<-b.served
}
