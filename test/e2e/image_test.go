//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// imageBase is what the image is built on in a lab, which reaches no registry
// of images: the root of a machine, with this machine's way to packages.
const imageBase = `ARG MACHINE
FROM ${MACHINE}
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY pip.conf /etc/pip.conf
RUN userdel -r plain && userdel -r ubuntu && rm -f /etc/sudoers.d/ubuntu
`

// TestAgentImage builds Dockerfile.agent, with an agent in it that runs
// nothing, and runs a job without `image` in it: with the Python environment
// that the default image promises, by the agent that was injected.
func TestAgentImage(t *testing.T) {
	if os.Getenv("E2E_LONG") == "" {
		t.Skip("takes three minutes; set E2E_LONG=1")
	}
	const image = lab.Registry + "/base"
	buildAgentImage(t, image+":0.16-base-ubuntu24.04")
	server := lab.ServerFor(t, []string{"DSTACK_DOCKER_BASE_IMAGE=" + image})
	machine, err := shared.lab.NewMachine(t.Context(), lab.MachineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if result, err := server.ApplyFleet(t.Context(), "image", machine); err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	task := map[string]any{
		"python": "3.11", "env": []string{"SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
		"commands": []string{"python --version", "which python", "git --version", "uv --version", "id -u dstack", "sudo -n true", "pwd"},
	}
	if _, err := server.Submit(t.Context(), "in-image", task); err != nil {
		t.Fatal(err)
	}
	run, err := server.Finish(t.Context(), "in-image", 3*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	log, err := server.Logs(t.Context(), run)
	if err != nil || run.Status != api.RunDone {
		t.Fatalf("run is %s, %v\n%s", run.Status, err, log)
	}
	for _, want := range []string{"Python 3.11.", "/dstack/venv/bin/python", "git version", "uv 0.", "1001", "/dstack/run"} {
		if !strings.Contains(string(log), want) {
			t.Errorf("the job says %q, want %q in it", log, want)
		}
	}
}

func buildAgentImage(t *testing.T, image string) {
	t.Helper()
	t.Setenv("DOCKER_BUILDKIT", "0") // what Engine 20.10 has by itself
	dir := t.TempDir()
	root := filepath.Dir(filepath.Dir(lab.Binary("dstack")))
	script := `set -e
cp "$1/Dockerfile.agent" /etc/ssl/certs/ca-certificates.crt .
cp /etc/pip.conf . 2>/dev/null || touch pip.conf
mkdir bin && printf '#!/bin/sh\necho "the agent of the image runs"\nexit 99\n' >bin/dstack-agent && chmod 755 bin/dstack-agent
printf '%s' "$2" >Dockerfile.base`
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script, "sh", root, imageBase)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	machines, err := shared.lab.Docker(t.Context(), "images", "--format", "{{.Repository}}:{{.Tag}}", "lab-machine")
	if err != nil {
		t.Fatal(err)
	}
	newest, _, _ := strings.Cut(machines, "\n")
	for _, args := range [][]string{
		{"build", "-q", "--network", "host", "-f", dir + "/Dockerfile.base", "--build-arg", "MACHINE=" + newest, "-t", "image-base", dir},
		{"build", "-q", "--network", "host", "-f", dir + "/Dockerfile.agent", "--build-arg", "BASE=image-base", "--build-arg", "PYTHONS=", "-t", image, dir},
		{"push", image},
	} {
		if out, err := shared.lab.Docker(t.Context(), args...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}
