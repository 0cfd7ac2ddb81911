// Package moto starts EC2 for tests: moto with what double.py adds to it.
// test/ci/python.sh makes its Python environment.
package moto

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// python is that of the environment with moto.
const python = "/var/cache/dstack-lab/moto/bin/python"

//go:embed double.py
var program []byte

// Double is a running EC2.
type Double struct {
	// URL is for AWS_ENDPOINT_URL.
	URL string
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

// Start starts a double, which ends with the test.
func Start(t *testing.T) *Double {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "double.py")
	if err := os.WriteFile(file, program, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, file)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start moto (test/ci/python.sh makes its environment): %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("moto does not start: %v\n%s", err, text)
	}
	d := &Double{URL: strings.TrimSpace(line)}
	d.Reset(t)
	return d
}

// Reset empties the cloud.
func (d *Double) Reset(t *testing.T) { t.Helper(); d.tell(t, "reset", struct{}{}) }

// Inject lets something go wrong.
func (d *Double) Inject(t *testing.T, f Fault) {
	t.Helper()
	f.Times = max(f.Times, 1)
	if f.Status == 0 {
		f.Status = http.StatusBadRequest
	}
	d.tell(t, "fault", f)
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
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.Post(d.URL+"/_double/"+what, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("moto: %s", answer.Status)
	}
}
