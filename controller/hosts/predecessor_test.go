package hosts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dstack/protocol/hostapi"
	"dstack/sshlink/sshtest"
)

// oldHost is a machine on which dstack 0.22 is: its runner, and a shim that
// must not be run.
func oldHost(t *testing.T) (m *machine, ran string) {
	t.Helper()
	m = newMachine(t, sshtest.Options{Noise: "Welcome!\n"})
	dir := filepath.Dir(m.bin)
	m.layout.oldRunner, ran = filepath.Join(dir, "bin", "dstack-runner"), filepath.Join(dir, "ran")
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{m.layout.oldRunner: "runner", m.layout.shim: "#!/bin/sh\ntouch " + ran + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m, ran
}

// TestPredecessor leaves a host of dstack 0.22 alone as long as jobs run there,
// and takes it over then.
func TestPredecessor(t *testing.T) {
	m, ran := oldHost(t)
	busy := filepath.Join(filepath.Dir(m.bin), "busy")
	if err := os.WriteFile(busy, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	silent := filepath.Join(filepath.Dir(m.bin), "silent")
	if err := os.WriteFile(silent, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Each line is a container; ours are empty lines.
	m.script(t, "docker", "[ ! -e "+silent+" ] || exit 1; if [ -e "+busy+" ]; then echo; echo task=train-0-0-1a2b3c4d; fi")
	before, err := os.ReadFile(m.layout.shim)
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	p := m.pool(t, r, testPayload(t, "agent"))
	p.Ensure(m.target)
	r.await(t, "the host is left alone", func() bool { return len(r.downs) > 0 })
	if d := r.downs[0]; d.Code != codeOccupied || d.Permanent || !strings.Contains(d.Message, "Docker does not tell") {
		t.Errorf("while Docker does not answer: %+v", d)
	}
	if err := os.Remove(silent); err != nil {
		t.Fatal(err)
	}
	var d hostapi.Problem
	r.await(t, "the host is left alone for its jobs", func() bool {
		d = r.downs[len(r.downs)-1]
		return strings.Contains(d.Message, "containers")
	})
	if d.Code != codeOccupied || d.Permanent || !strings.Contains(d.Message, "train-0-0-1a2b3c4d") || !strings.Contains(d.Message, "alice@127.0.0.1") {
		t.Errorf("down = %+v", d)
	}
	if after, err := os.ReadFile(m.layout.shim); err != nil || string(after) != string(before) {
		t.Errorf("the shim was changed: %v", err)
	}
	if err := os.Remove(busy); err != nil {
		t.Fatal(err)
	}
	r.await(t, "the host is up", func() bool { return len(r.ups) == 1 })
	for _, path := range []string{m.layout.oldRunner, ran} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := p.Uninstall(t.Context(), m.target); err != nil {
		t.Error(err)
	}
}

// TestPredecessorIsNotRemoved deletes a host that never was ours.
func TestPredecessorIsNotRemoved(t *testing.T) {
	m, ran := oldHost(t)
	p := m.pool(t, newRecorder(), testPayload(t, "agent"))
	if err := p.Uninstall(t.Context(), m.target); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{m.layout.oldRunner, m.layout.shim} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(ran); !os.IsNotExist(err) {
		t.Errorf("its shim was run: %v", err)
	}
	if err := os.Remove(m.layout.shim); err != nil { // the cleanup would run it
		t.Fatal(err)
	}
}

func FuzzPredecessor(f *testing.F) {
	f.Add("Welcome\ndstack-probe-begin\nrunner\ntask=a\n\ndstack-probe-end\n")
	f.Fuzz(func(t *testing.T, out string) {
		if p := parsePredecessor(out); strings.Contains(strings.Join(p.tasks, ""), "\n") {
			t.Errorf("%+v", p)
		}
	})
}
