//go:build e2e

// Package e2e runs whole tasks on lab machines: real sshd, systemd and Docker
// Engine, the binaries of `make build`, and nothing of ours replaced.
package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"dstack/test/lab"
)

// bench is what all tests of this package share.
type bench struct {
	lab      *lab.Lab
	server   *lab.Server
	machines []*lab.Machine
}

var shared bench

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		return complain(err)
	}
	defer os.RemoveAll(dir)
	if shared.lab, err = lab.Open(ctx); err != nil {
		return complain(err)
	}
	defer func() {
		if err := shared.lab.Close(); err != nil {
			complain(err)
		}
	}()
	for range 2 {
		machine, err := shared.lab.NewMachine(ctx, lab.MachineOptions{Images: []string{lab.Busybox}})
		if err != nil {
			return complain(err)
		}
		shared.machines = append(shared.machines, machine)
	}
	if shared.server, err = lab.StartServer(ctx, dir, []string{"DSTACK_SERVER_LOG_QUOTA_PER_JOB_HOUR=0", "DSTACK_ENABLE_PROMETHEUS_METRICS=1"}); err != nil {
		return complain(err)
	}
	defer func() {
		if err := shared.server.Stop(); err != nil {
			complain(err)
		}
	}()
	result, err := shared.server.ApplyFleet(ctx, "lab", shared.machines...)
	if err != nil || result.Exit != 0 {
		return complain(fmt.Errorf("apply fleet: %+v, %w\n%s", result, err, shared.server.Log()))
	}
	code := m.Run()
	if code != 0 {
		keep := "/tmp/e2e-server.log"
		if err := os.WriteFile(keep, []byte(shared.server.Log()), 0o600); err == nil {
			fmt.Println("server log:", keep)
		}
	}
	return code
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}
