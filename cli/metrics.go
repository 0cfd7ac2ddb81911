package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dstack/cli/render"
	"dstack/protocol/api"
)

const (
	// metricsPeriod is how often new values come.
	metricsPeriod = 10 * time.Second
	// metricsLimit is how many values of a job are asked for.
	metricsLimit = 1000
)

type metricsOptions struct {
	project      string
	watch        bool
	replica, job int
	// byReplica and byJob say that one was named.
	byReplica, byJob bool
	output           outputOptions
}

func (a *App) metricsCommand() *cobra.Command {
	var o metricsOptions
	cmd := &cobra.Command{
		Use: "metrics run_name", Short: "Show how much of a machine a run uses", Args: names(1, 1, "run_name"),
		Long:              "Show the load of CPUs and GPUs and the memory that the jobs of a run used in the last hour.",
		ValidArgsFunction: a.completeRuns(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.byReplica, o.byJob = cmd.Flags().Changed("replica"), cmd.Flags().Changed("job")
			return a.metrics(cmd.Context(), o, args[0])
		},
	}
	a.projectFlag(cmd, &o.project)
	set := cmd.Flags()
	set.BoolVarP(&o.watch, "watch", "w", false, "Watch the metrics and redraw on change")
	set.IntVar(&o.replica, "replica", 0, "Show this replica only")
	set.IntVar(&o.job, "job", 0, "Show the job of this number only")
	o.output.define(set)
	return quietly(cmd)
}

// jobMetrics are the metrics of one job, as JSON shows them.
type jobMetrics struct {
	ReplicaNum int          `json:"replica_num"`
	JobNum     int          `json:"job_num"`
	Metrics    []api.Metric `json:"metrics"`
}

func (a *App) metrics(ctx context.Context, o metricsOptions, name string) error {
	if o.output.wantsJSON() && o.watch {
		return errors.New("JSON output is not supported together with --watch")
	}
	s, err := a.connect(o.project)
	if err != nil {
		return err
	}
	list := func(ctx context.Context) ([]jobMetrics, error) { return listMetrics(ctx, s, o, name) }
	draw := func(jobs []jobMetrics) string {
		columns := 0
		if a.TTY {
			columns, _ = a.Size()
		}
		shown := make([]render.JobUsage, len(jobs))
		for i, j := range jobs {
			shown[i] = render.JobUsage{Replica: j.ReplicaNum, Job: j.JobNum, Metrics: j.Metrics}
		}
		return a.Render(render.MetricsTable(shown, a.env.Now(), columns))
	}
	if o.watch {
		return watchEvery(ctx, a, metricsPeriod, list, draw)
	}
	jobs, err := list(ctx)
	if err != nil {
		return err
	}
	if o.output.wantsJSON() {
		return a.printJSON(struct {
			Project string       `json:"project"`
			RunName string       `json:"run_name"`
			Jobs    []jobMetrics `json:"jobs"`
		}{s.project, name, nonNil(jobs)})
	}
	a.write(draw(jobs))
	return nil
}

func listMetrics(ctx context.Context, s *session, o metricsOptions, name string) ([]jobMetrics, error) {
	run, err := s.findRun(ctx, name)
	if err != nil {
		return nil, err
	}
	var out []jobMetrics
	for _, job := range run.Jobs {
		spec := job.JobSpec
		if o.byReplica && spec.ReplicaNum != o.replica || o.byJob && spec.JobNum != o.job {
			continue
		}
		m, err := s.JobMetrics(ctx, name, spec.ReplicaNum, spec.JobNum, metricsLimit)
		if err != nil {
			return nil, err
		}
		out = append(out, jobMetrics{spec.ReplicaNum, spec.JobNum, nonNil(m.Metrics)})
	}
	if len(out) == 0 && (o.byReplica || o.byJob) {
		return nil, sentence("Run %s has no job matching %s", name, o.wanted())
	}
	return out, nil
}

// wanted is the choice of jobs as the user made it.
func (o *metricsOptions) wanted() string {
	var parts []string
	if o.byReplica {
		parts = append(parts, fmt.Sprintf("replica=%d", o.replica))
	}
	if o.byJob {
		parts = append(parts, fmt.Sprintf("job=%d", o.job))
	}
	return strings.Join(parts, " ")
}
