// Package moto starts EC2 for tests: moto with what double.py adds to it.
// test/ci/python.sh makes its Python environment.
package moto

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// python is that of the environment with moto.
const python = "/var/cache/dstack-lab/moto/bin/python"

//go:embed double.py lab.py
var programs embed.FS

// Double is a running EC2.
type Double struct {
	// URL is for AWS_ENDPOINT_URL.
	URL string
	cmd *exec.Cmd
	log *os.File
}

// Fault lets calls of an action go wrong.
type Fault struct {
	Action string `json:"action"`
	// Code and Message are AWS's; Status is that of HTTP, 400 if it is 0.
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	Status  int    `json:"status,omitempty"`
	// Lost lets the call act and then closes the connection.
	Lost bool `json:"lost,omitempty"`
	// Spends lets a refusal use the call's token up.
	Spends bool `json:"spends,omitempty"`
	// Skip is how many calls go well before, Times how many go wrong, 1 if it
	// is 0.
	Skip  int `json:"skip,omitempty"`
	Times int `json:"times,omitempty"`
}

// Reservation is reserved capacity.
type Reservation struct {
	ID    string `json:"id"`
	Zone  string `json:"zone"`
	Type  string `json:"type"`
	Free  int    `json:"free"`
	Block bool   `json:"block"`
}

// Start starts the double for a test and ends it with the test.
func Start(t *testing.T) *Double {
	t.Helper()
	d, err := Launch(t.Context(), t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	return d
}

// Launch starts the double with its log in dir. If hook is an address, its
// machines are real, see lab.py.
func Launch(ctx context.Context, dir, hook string) (*Double, error) {
	if err := os.CopyFS(dir, programs); err != nil {
		return nil, fmt.Errorf("write the double: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("make the log of moto: %w", err)
	}
	args := []string{filepath.Join(dir, "double.py")}
	if hook != "" {
		args = []string{filepath.Join(dir, "lab.py"), hook}
	}
	d := &Double{cmd: exec.CommandContext(ctx, python, args...), log: log}
	d.cmd.Stderr = log
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pipe: %w", err), log.Close())
	}
	if err := d.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start moto (test/ci/python.sh makes its environment): %w", err), log.Close())
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		d.URL = strings.TrimSpace(line)
		err = d.Tell("reset", struct{}{})
	}
	if err != nil {
		d.Stop()
		text, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("moto does not start: %w\n%s", err, text)
	}
	return d, nil
}

// Stop ends it.
func (d *Double) Stop() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
	_ = d.log.Close()
}

// Reset empties the cloud.
func (d *Double) Reset(t *testing.T) { t.Helper(); d.tell(t, "reset", struct{}{}) }

// Inject lets something go wrong.
func (d *Double) Inject(t *testing.T, f Fault) {
	t.Helper()
	if err := d.Fault(f); err != nil {
		t.Fatal(err)
	}
}

// Fault lets something go wrong.
func (d *Double) Fault(f Fault) error {
	f.Times = max(f.Times, 1)
	if f.Status == 0 {
		f.Status = http.StatusBadRequest
	}
	return d.Tell("fault", f)
}

// Hide lets machines that are made from now on not be shown, until it is off.
func (d *Double) Hide(t *testing.T, on bool) {
	t.Helper()
	d.tell(t, "hide", map[string]bool{"on": on})
}

// Reserve adds reserved capacity.
func (d *Double) Reserve(t *testing.T, r Reservation) { t.Helper(); d.tell(t, "reservation", r) }

// Actions are those that were called since the cloud was emptied.
func (d *Double) Actions(t *testing.T) []string {
	t.Helper()
	answer, err := http.Get(d.URL + "/_double/actions")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var out []string
	if err := json.NewDecoder(answer.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func (d *Double) tell(t *testing.T, what string, v any) {
	t.Helper()
	if err := d.Tell(what, v); err != nil {
		t.Fatal(err)
	}
}

// Tell gives one of the double's own orders.
func (d *Double) Tell(what string, v any) (err error) {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode order %s: %w", what, err)
	}
	answer, err := http.Post(d.URL+"/_double/"+what, "application/json", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("tell moto %s: %w", what, err)
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("tell moto %s: %s", what, answer.Status)
	}
	return nil
}
