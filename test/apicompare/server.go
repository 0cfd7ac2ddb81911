package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// adminToken is the admin's token on both servers, strangeToken nobody's.
const (
	adminToken   = "3c6f9b1e-52a4-4d8b-9d0c-6a0e0f9c7d11"
	strangeToken = "4c6f9b1e-52a4-4d8b-9d0c-6a0e0f9c7d12"
)

// server is one of the two, with what its answers gave so far.
type server struct {
	name string
	url  string
	vars vars
	cmd  *exec.Cmd
	log  *os.File
}

// start starts a server in a new folder and waits until it answers.
func start(ctx context.Context, name, program, dir string, s sequence) (*server, error) {
	out := &server{name: name, vars: vars{"admin.token": adminToken, "bad.token": strangeToken}}
	if program == "" {
		return out, nil // a recording stands for it
	}
	home := filepath.Join(dir, "home")
	state := filepath.Join(dir, "server")
	for _, d := range []string{home, state} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make folder: %w", err)
		}
	}
	if s.Config != "" {
		if err := os.WriteFile(filepath.Join(state, "config.yml"), []byte(s.Config), 0o600); err != nil {
			return nil, fmt.Errorf("write config.yml: %w", err)
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("make log: %w", err)
	}
	out.url, out.log = "http://127.0.0.1:"+strconv.Itoa(port), log
	out.cmd = exec.Command(program, "server", "--host", "127.0.0.1", "--port", strconv.Itoa(port), "-y")
	out.cmd.Env = append(cleanEnv(), "HOME="+home, "PYTHONHASHSEED=0", "DSTACK_SERVER_DIR="+state, "DSTACK_SERVER_ADMIN_TOKEN="+adminToken)
	for key, value := range s.Env {
		out.cmd.Env = append(out.cmd.Env, key+"="+value)
	}
	out.cmd.Stdout, out.cmd.Stderr = log, log
	if err := out.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", program, err), log.Close())
	}
	return out, out.ready(ctx)
}

// cleanEnv is our environment without what steers dstack.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(s string) bool {
		return strings.HasPrefix(s, "DSTACK_") || strings.HasPrefix(s, "HOME=")
	})
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	address, err := netip.ParseAddrPort(l.Addr().String())
	if err := errors.Join(err, l.Close()); err != nil {
		return 0, fmt.Errorf("free the port: %w", err)
	}
	return int(address.Port()), nil
}

func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 6*time.Minute)
	defer cancel()
	for {
		got, err := s.send(ctx, call{Call: "GET /healthcheck", As: names{"none"}})
		if err == nil && got.status == http.StatusOK {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s did not start, see %s: %w", s.name, s.log.Name(), err), s.stop())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stop ends the server and waits for it.
func (s *server) stop() error {
	if s.cmd == nil {
		return nil
	}
	err := s.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(10*time.Second, func() { _ = s.cmd.Process.Kill() })
	_ = s.cmd.Wait()
	timer.Stop()
	return errors.Join(err, s.log.Close())
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	// body is the decoded JSON, or a string if it is something else.
	body any
}

// send makes one request with the server's own values of the variables.
func (s *server) send(ctx context.Context, c call) (answer, error) {
	method, path, ok := strings.Cut(c.Call, " ")
	if !ok {
		return answer{}, fmt.Errorf("call %q: want METHOD /path", c.Call)
	}
	body, kind, err := s.body(c)
	if err != nil {
		return answer{}, err
	}
	request, err := http.NewRequestWithContext(ctx, method, s.url+s.vars.text(path), bytes.NewReader(body))
	if err != nil {
		return answer{}, fmt.Errorf("make request: %w", err)
	}
	if c.Type != "" {
		kind = c.Type
	}
	if kind != "" && kind != "none" {
		request.Header.Set("Content-Type", kind)
	}
	if as := c.As[0]; as != "none" {
		request.Header.Set("Authorization", s.vars.text("Bearer ${"+as+".token}"))
	}
	for key, value := range c.Headers {
		request.Header.Set(key, s.vars.text(value))
	}
	request.Close = true // after a 500 the real server cuts the connection
	response, err := (&http.Client{Timeout: time.Minute, CheckRedirect: noRedirect}).Do(request)
	if err != nil {
		return answer{}, fmt.Errorf("call %s: %w", s.name, err)
	}
	data, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return answer{}, fmt.Errorf("read answer: %w", err)
	}
	return answer{response.StatusCode, response.Header, decode(data)}, nil
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func decode(data []byte) any {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil || dec.More() {
		return strings.TrimSpace(string(data))
	}
	return tree
}

func (s *server) body(c call) (data []byte, kind string, err error) {
	switch {
	case c.File != nil:
		return s.form(*c.File)
	case c.Raw != nil:
		return []byte(s.vars.text(*c.Raw)), "application/json", nil
	case c.Body != nil:
		data, err := json.Marshal(s.vars.fill(c.Body))
		if err != nil {
			return nil, "", fmt.Errorf("encode body: %w", err)
		}
		return data, "application/json", nil
	}
	return nil, "", nil
}

func (s *server) form(f upload) (data []byte, kind string, err error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	h := textproto.MIMEHeader{}
	h.Set("Content-Disposition", fmt.Sprintf(`form-data; name=%q; filename=%q`, f.Field, s.vars.text(f.Name)))
	h.Set("Content-Type", "application/octet-stream")
	part, err := w.CreatePart(h)
	if err == nil {
		_, err = io.WriteString(part, f.Text)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, "", fmt.Errorf("make form: %w", err)
	}
	return b.Bytes(), w.FormDataContentType(), nil
}

// do sends a call, again and again if it is to wait for something, and saves
// what it is to save. missed names what the answer did not have.
func (s *server) do(ctx context.Context, c call) (got answer, missed []string, err error) {
	deadline := time.Now().Add(patience)
	for {
		if got, err = s.send(ctx, c); err != nil {
			return got, nil, err
		}
		missed = unmet(got.body, s.vars, c.Until)
		if len(missed) == 0 || time.Now().After(deadline) {
			break
		}
		select {
		case <-ctx.Done():
			return got, nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return got, append(missed, s.save(c, got.body)...), nil
}

// save keeps what the call wants of the answer, and names what it lacks.
func (s *server) save(c call, body any) (missed []string) {
	for _, name := range slices.Sorted(maps.Keys(c.Save)) {
		value, ok := lookUp(body, c.Save[name])
		if !ok {
			missed = append(missed, "save "+name)
			continue
		}
		s.vars[name] = value
	}
	return missed
}

func unmet(body any, v vars, until map[string]any) []string {
	var out []string
	for _, path := range slices.Sorted(maps.Keys(until)) {
		value, _ := lookUp(body, path)
		if want := v.fill(until[path]); fmt.Sprint(value) != fmt.Sprint(want) {
			out = append(out, "until "+path)
		}
	}
	return out
}
