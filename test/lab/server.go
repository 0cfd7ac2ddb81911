//go:build e2e

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"dstack/protocol/api"
)

// Token is the admin's token on lab servers.
const Token = "lab-admin-token"

// Server is bin/dstack server as its own process, with a folder of its own.
type Server struct {
	URL string
	// Dir holds HOME and the server's directory.
	Dir  string
	port int
	env  []string
	args []string
	cmd  *exec.Cmd
	// program is bin/dstack, or the real server's.
	program string
}

// Binary is the path of a program that `make build` made.
func Binary(name string) string {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "bin", name)
		}
		dir = filepath.Dir(dir)
	}
	return filepath.Join("bin", name)
}

// StartServer starts a server in dir, which keeps its state over restarts.
// env are NAME=VALUE additions to its environment.
func StartServer(ctx context.Context, dir string, env []string, args ...string) (*Server, error) {
	return startProgram(ctx, Binary("dstack"), dir, env, args...)
}

// StartReal starts the real dstack 0.22.5 server, which test/ci/python.sh
// installs, in the same way.
func StartReal(ctx context.Context, dir string, env []string) (*Server, error) {
	return startProgram(ctx, filepath.Join(Home, "server-0.22.5", "bin", "dstack"), dir, env, "--host", "127.0.0.1")
}

func startProgram(ctx context.Context, program, dir string, env []string, args ...string) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	address, err := netip.ParseAddrPort(l.Addr().String())
	if err := errors.Join(err, l.Close()); err != nil {
		return nil, fmt.Errorf("free the port: %w", err)
	}
	port := int(address.Port())
	s := &Server{URL: fmt.Sprintf("http://127.0.0.1:%d", port), Dir: dir, port: port, env: env, args: args, program: program}
	return s, s.Start(ctx)
}

// Start starts the server (again) and waits until it answers.
func (s *Server) Start(ctx context.Context) error {
	return s.start(ctx, 50*time.Millisecond)
}

// StartQuick is Start for measuring: it asks every millisecond.
func (s *Server) StartQuick(ctx context.Context) error {
	return s.start(ctx, time.Millisecond)
}

func (s *Server) start(ctx context.Context, every time.Duration) (err error) {
	home := filepath.Join(s.Dir, "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return fmt.Errorf("make home: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(s.Dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open server log: %w", err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	s.cmd = exec.Command(s.program, append([]string{"server", "--port", fmt.Sprint(s.port), "-y"}, s.args...)...)
	s.cmd.Env = append(s.environ(), "DSTACK_SERVER_ADMIN_TOKEN="+Token, "DSTACK_SERVER_LOG_FORMAT=json")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start server (make build): %w", err)
	}
	return waitEvery(ctx, every, 2*time.Minute, "server "+s.URL, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/healthcheck", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		return response.Body.Close()
	})
}

func (s *Server) environ() []string {
	env := append(os.Environ(), "COLUMNS=140", "HOME="+filepath.Join(s.Dir, "home"), "DSTACK_SERVER_DIR="+filepath.Join(s.Dir, "server"))
	return append(env, s.env...)
}

// PID is the server's process id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Log is what the servers of this folder printed so far.
func (s *Server) Log() string {
	text, err := os.ReadFile(filepath.Join(s.Dir, "server.log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Kill ends the server with SIGKILL, as a crash does.
func (s *Server) Kill() error { return s.end(syscall.SIGKILL) }

// Stop ends the server gracefully.
func (s *Server) Stop() error { return s.end(syscall.SIGTERM) }

// Wait waits until the server ended by itself; the error is as of exec.
func (s *Server) Wait() error { return s.cmd.Wait() }

func (s *Server) end(signal syscall.Signal) error {
	if err := s.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end server: %w", err)
	}
	var exit *exec.ExitError
	if err := s.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("wait for server: %w", err)
	}
	return nil
}

// Call posts in to an API path and decodes the answer into out.
func (s *Server) Call(ctx context.Context, path string, in, out any) (err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/api/"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+Token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("call %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %d: %s", path, response.StatusCode, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// Result is what a command of the CLI did.
type Result struct {
	Stdout, Stderr string
	Exit           int
}

// CLI runs bin/dstack with the server's HOME in dir.
func (s *Server) CLI(ctx context.Context, dir string, args ...string) (Result, error) {
	return s.command(ctx, dir, Binary("dstack"), args...)
}

// Command is a program with the server's HOME in dir, for callers that stay
// with it while it runs.
func (s *Server) Command(ctx context.Context, dir, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = s.environ()
	return cmd
}

func (s *Server) command(ctx context.Context, dir, program string, args ...string) (Result, error) {
	cmd := s.Command(ctx, dir, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	result := Result{Stdout: stdout.String(), Stderr: stderr.String(), Exit: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return result, fmt.Errorf("run %s: %w", program, err)
	}
	return result, nil
}

// Python runs the Python CLI of dstack 0.22.5 from a virtual environment.
func (s *Server) Python(ctx context.Context, dir, venv string, args ...string) (Result, error) {
	return s.command(ctx, dir, filepath.Join(venv, "bin", "dstack"), args...)
}

// Submit applies a task configuration given as JSON-able fields and returns
// the run; the type and the disk size (100 GB by default) are filled in.
func (s *Server) Submit(ctx context.Context, name string, task map[string]any) (api.Run, error) {
	configuration := map[string]any{"type": "task", "name": name, "resources": map[string]any{"cpu": "1..", "memory": "0.1..", "disk": "1GB.."}}
	for k, v := range task {
		configuration[k] = v
	}
	var run api.Run
	err := s.Call(ctx, "project/main/runs/apply", map[string]any{"force": false, "plan": map[string]any{
		"run_spec": map[string]any{"run_name": name, "configuration": configuration}, "current_resource": nil,
	}}, &run)
	return run, err
}

// Run gets a run by name.
func (s *Server) Run(ctx context.Context, name string) (api.Run, error) {
	var run api.Run
	return run, s.Call(ctx, "project/main/runs/get", map[string]any{"run_name": name}, &run)
}

// WaitRun waits until the run meets ok.
func (s *Server) WaitRun(ctx context.Context, name string, limit time.Duration, what string, ok func(api.Run) bool) (api.Run, error) {
	var run api.Run
	err := Wait(ctx, limit, what+" of "+name, func(ctx context.Context) error {
		var err error
		if run, err = s.Run(ctx, name); err != nil {
			return err
		}
		if !ok(run) {
			return fmt.Errorf("%s: %w", describe(run), errNotYet)
		}
		return nil
	})
	return run, err
}

// Finish waits until the run is over.
func (s *Server) Finish(ctx context.Context, name string, limit time.Duration) (api.Run, error) {
	return s.WaitRun(ctx, name, limit, "end", func(r api.Run) bool { return r.Status.Finished() })
}

func describe(r api.Run) string {
	text := fmt.Sprintf("run %s is %s", r.ID, r.Status)
	if s := r.LatestJobSubmission; s != nil {
		text += fmt.Sprintf(", job is %s", s.Status)
		if s.TerminationReasonMessage != nil {
			text += ": " + *s.TerminationReasonMessage
		}
	}
	return text
}

// Logs reads the whole log of a run's latest submission through logs/poll.
func (s *Server) Logs(ctx context.Context, run api.Run) ([]byte, error) {
	var log []byte
	request := map[string]any{"run_name": *run.RunSpec.RunName, "job_submission_id": run.LatestJobSubmission.ID, "limit": 1000}
	for {
		var page struct {
			Logs []struct {
				Message []byte `json:"message"`
			} `json:"logs"`
			NextToken *string `json:"next_token"`
		}
		if err := s.Call(ctx, "project/main/logs/poll", request, &page); err != nil {
			return log, err
		}
		for _, event := range page.Logs {
			log = append(log, event.Message...)
		}
		if page.NextToken == nil {
			return log, nil
		}
		request["next_token"] = *page.NextToken
	}
}

// ApplyFleet makes a fleet of the machines with the CLI and waits until it is ready.
func (s *Server) ApplyFleet(ctx context.Context, name string, machines ...*Machine) (Result, error) {
	var text strings.Builder
	fmt.Fprintf(&text, "type: fleet\nname: %s\nssh_config:\n  user: ubuntu\n  hosts:\n", name)
	for _, m := range machines {
		fmt.Fprintf(&text, "    - {hostname: %s, identity_file: %s}\n", m.IP, m.Key)
	}
	file := filepath.Join(s.Dir, name+".dstack.yml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return Result{}, fmt.Errorf("write fleet file: %w", err)
	}
	return s.CLI(ctx, s.Dir, "apply", "-f", file, "-y")
}

// Restart stops the server and starts it again with additions to its environment.
func (s *Server) Restart(ctx context.Context, env ...string) error {
	if err := s.Stop(); err != nil {
		return err
	}
	s.env = append(s.env, env...)
	return s.Start(ctx)
}
