package hosts

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"dstack/protocol/hostapi"
)

// oldRunnerPath is where dstack 0.22 has its runner on a host (spec:
// job-execution.md 2). Ours removes it when it takes the host over: as long as
// it is there, dstack-shim and all that belongs to it is of 0.22.
const oldRunnerPath = "/usr/local/bin/dstack-runner"

//go:embed predecessor.sh
var predecessorScript string

// predecessor is what dstack 0.22 has on a host.
type predecessor struct {
	// is says that the host is one of 0.22: nothing of ours is there.
	is bool
	// silent says that Docker does not tell what runs there. Containers may:
	// they outlive a daemon that was stopped or hangs.
	silent bool
	// tasks are the containers of its jobs.
	tasks []string
}

// predecessor looks for dstack 0.22 on the host.
func (r *remote) predecessor(ctx context.Context) (predecessor, error) {
	res, err := r.script(ctx, r.facts.asRoot("/bin/sh -s"), map[string]string{"OLD_RUNNER": r.layout.oldRunner}, predecessorScript)
	if err != nil {
		return predecessor{}, err
	}
	return parsePredecessor(string(res.Stdout)), nil
}

func parsePredecessor(out string) predecessor {
	var p predecessor
	_, out, _ = strings.Cut(out, "dstack-probe-begin\n")
	out, _, _ = strings.Cut(out, "dstack-probe-end\n")
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "task="); ok && name != "" {
			p.tasks = append(p.tasks, strings.ToValidUTF8(name, "?"))
		}
		p.is = p.is || line == "runner"
		p.silent = p.silent || line == "silent"
	}
	return p
}

// maxNamedTasks is how many containers a message names.
const maxNamedTasks = 5

// problem is why a host is left alone: jobs of 0.22 run there, or may. It is
// nil if none do.
func (p predecessor) problem(t Target) *hostapi.Problem {
	if p.silent {
		return &hostapi.Problem{
			Code:    codeOccupied,
			Message: t.name() + " is left alone: dstack 0.22 is there, and Docker does not tell whether jobs of it run",
			Remedy:  "Start Docker there (`systemctl restart docker`), or remove /usr/local/bin/dstack-runner if nothing of dstack 0.22 runs; the server keeps trying",
		}
	}
	if len(p.tasks) == 0 {
		return nil
	}
	names := strings.Join(p.tasks[:min(len(p.tasks), maxNamedTasks)], ", ")
	if more := len(p.tasks) - maxNamedTasks; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return &hostapi.Problem{
		Code:    codeOccupied,
		Message: fmt.Sprintf("%s is left alone: jobs of dstack 0.22 run there (containers %s)", t.name(), names),
		Remedy:  "Stop their runs with the server that started them or, if that is gone, remove the containers with `docker rm -f`; the server keeps trying",
	}
}
