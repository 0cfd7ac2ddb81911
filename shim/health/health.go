// Package health judges the NVIDIA accelerators of a host: by DCGM where its
// host engine runs, else by nvidia-smi and what the driver told the kernel's
// log (spec: job-execution.md 8.2). It changes nothing on the host but DCGM's
// own watches.
package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"strings"

	"dstack/protocol/hostapi"
	"dstack/shim/gpu"
)

// Checker looks at one host.
type Checker struct {
	// Root is the host's file system.
	Root fs.FS
	Run  gpu.Command
	// Log is the kernel's log of this boot; see [KernelLog].
	Log func() (string, error)
	// Toolkit is why the runtime cannot give GPUs to tasks, nil if it can; not
	// asked if it is nil itself.
	Toolkit func() error
}

// Check looks at the accelerators once. It is nil for a host without any of
// NVIDIA's: of others nothing is known.
func (c Checker) Check(ctx context.Context) *hostapi.Health {
	tool := gpu.NvidiaTool(c.Root)
	if tool == "" {
		return nil
	}
	incidents, known := c.dcgm(ctx)
	if !known {
		incidents = append(c.smi(ctx, tool), c.kernel()...)
	}
	if c.Toolkit != nil {
		if err := c.Toolkit(); err != nil {
			incidents = append(incidents, hostapi.Incident{Status: hostapi.HealthWarning, Message: err.Error()})
		}
	}
	return judge(incidents)
}

func (c Checker) kernel() []hostapi.Incident {
	log, err := c.Log()
	if err != nil {
		return []hostapi.Incident{{
			Status: hostapi.HealthWarning, Message: fmt.Sprintf("The kernel's log cannot be read for errors of the driver: %v", err),
		}}
	}
	return xids(log)
}

// errNoToolkit is a host whose Docker Engine does not know GPUs.
var errNoToolkit = errors.New("Containers cannot get GPUs: install the nvidia-container-toolkit and restart Docker") //nolint:staticcheck // users read it as a sentence

// Toolkit looks for the program by which the Docker Engine gives GPUs to
// containers. It must be where the engine found it at its start.
func Toolkit() error {
	if _, err := exec.LookPath("nvidia-container-runtime-hook"); err != nil {
		return errNoToolkit
	}
	return nil
}

// Failed is the health of a host whose accelerators cannot even be listed.
func Failed(err error) *hostapi.Health {
	status := hostapi.HealthFailure
	if errors.Is(err, exec.ErrNotFound) {
		// The host can do what needs no accelerator.
		status = hostapi.HealthWarning
	}
	return judge([]hostapi.Incident{{Status: status, Message: fmt.Sprintf("The accelerators cannot be listed: %s", failure(err))}})
}

// judge is the worst of all incidents. They are bounded: see [hostapi.MaxIncidents].
func judge(incidents []hostapi.Incident) *hostapi.Health {
	h := &hostapi.Health{Status: hostapi.Healthy}
	for _, i := range incidents {
		if worse(i.Status, h.Status) {
			h.Status = i.Status
		}
		i.Message = strings.Join(strings.Fields(strings.ToValidUTF8(i.Message, "?")), " ")
		if len(i.Message) > hostapi.MaxIncidentText {
			i.Message = strings.ToValidUTF8(i.Message[:hostapi.MaxIncidentText], "")
		}
		if len(h.Incidents) < hostapi.MaxIncidents {
			h.Incidents = append(h.Incidents, i)
		}
	}
	return h
}

func worse(a, b string) bool {
	rank := []string{hostapi.Healthy, hostapi.HealthWarning, hostapi.HealthFailure}
	return slices.Index(rank, a) > slices.Index(rank, b)
}

// failure is an error with what the program said.
func failure(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Sprintf("%v: %s", err, exit.Stderr)
	}
	return err.Error()
}
