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

// predecessor says whether the host is one of dstack 0.22, and which containers
// of its jobs run there. Nothing of ours is on such a host.
func (r *remote) predecessor(ctx context.Context) (is bool, tasks []string, err error) {
	res, err := r.script(ctx, r.facts.asRoot("/bin/sh -s"), map[string]string{"OLD_RUNNER": r.layout.oldRunner}, predecessorScript)
	if err != nil {
		return false, nil, err
	}
	is, tasks = parsePredecessor(string(res.Stdout))
	return is, tasks, nil
}

func parsePredecessor(out string) (is bool, tasks []string) {
	_, out, _ = strings.Cut(out, "dstack-probe-begin\n")
	out, _, _ = strings.Cut(out, "dstack-probe-end\n")
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "task="); ok && name != "" {
			tasks = append(tasks, strings.ToValidUTF8(name, "?"))
		}
		is = is || line == "runner"
	}
	return is, tasks
}

// maxNamedTasks is how many containers a message names.
const maxNamedTasks = 5

// occupiedProblem is why a host is left alone on which jobs of 0.22 run.
func occupiedProblem(t Target, tasks []string) *hostapi.Problem {
	names := strings.Join(tasks[:min(len(tasks), maxNamedTasks)], ", ")
	if more := len(tasks) - maxNamedTasks; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return &hostapi.Problem{
		Code:    codeOccupied,
		Message: fmt.Sprintf("%s is left alone: jobs of dstack 0.22 run there (containers %s)", t.name(), names),
		Remedy:  "Stop their runs with the server that started them or, if that is gone, remove the containers with `docker rm -f`; the server keeps trying",
	}
}
