package cli

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"dstack/cli/render"
	"dstack/client"
	"dstack/protocol/api"
)

const (
	// topPeriod is how often `top` asks: hosts measure every 10 s.
	topPeriod = 5 * time.Second
	// topCalls is how many jobs a server without metrics/usage is asked about
	// at a time.
	topCalls = 8
)

type topOptions struct {
	project             string
	once, json, verbose bool
	sort                string
}

func (a *App) topCommand() *cobra.Command {
	var o topOptions
	cmd := &cobra.Command{
		Use: "top [run_name ...]", Short: "Show what the running jobs use of their machines", Args: names(0, -1, "run_name"),
		Long: "Show the CPUs, memory and GPUs that running jobs use: of the named runs, or of all runs of the project.\n\n" +
			"On a terminal the table is redrawn until Ctrl-C. Elsewhere it is printed once; --json prints a line for each look.",
		ValidArgsFunction: a.completeRuns(true),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.top(cmd.Context(), o, args) },
	}
	a.projectFlag(cmd, &o.project)
	set := cmd.Flags()
	set.BoolVarP(&o.once, "once", "1", false, "Look once and exit")
	set.BoolVarP(&o.verbose, "verbose", "v", false, "Show each GPU, and where the jobs are")
	set.Var(newChoice(&o.sort, "name", render.UsageOrders...), "sort", "The order of jobs: name (default), cpu, memory or gpu")
	metavar(set, "sort", "{name,cpu,memory,gpu}")
	a.completeFlag(cmd, "sort", cobra.FixedCompletions(render.UsageOrders, cobra.ShellCompDirectiveNoFileComp))
	set.BoolVar(&o.json, "json", false, "Print JSON, one line for each look")
	return quietly(cmd)
}

func (a *App) top(ctx context.Context, o topOptions, runs []string) error {
	s, err := a.connect(o.project)
	if err != nil {
		return err
	}
	look := func(ctx context.Context) ([]api.JobUsage, error) {
		jobs, err := s.usage(ctx, runs)
		render.SortUsage(jobs, o.sort)
		return jobs, err
	}
	if o.json {
		return a.topJSON(ctx, s.project, o.once, look)
	}
	draw := func(jobs []api.JobUsage) string {
		if len(jobs) == 0 {
			return "No job is running in project " + s.project + ".\n"
		}
		return a.Render(render.UsageTable(jobs, a.env.Now(), o.verbose))
	}
	if a.TTY && !o.once {
		return watchEvery(ctx, a, topPeriod, look, draw)
	}
	jobs, err := look(ctx)
	if err != nil {
		return err
	}
	a.write(draw(jobs))
	return nil
}

// topJSON prints a line for each look, until ctx ends or the reader goes away.
func (a *App) topJSON(ctx context.Context, project string, once bool, look func(context.Context) ([]api.JobUsage, error)) error {
	again := time.NewTicker(topPeriod)
	defer again.Stop()
	for {
		jobs, err := look(ctx)
		if err != nil {
			return err
		}
		err = a.printJSON(struct {
			Project string         `json:"project"`
			Time    api.Time       `json:"time"`
			Jobs    []api.JobUsage `json:"jobs"`
		}{project, api.At(a.env.Now()), nonNil(jobs)})
		if err != nil || once {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-again.C:
		}
	}
}

// usage asks for what running jobs use: once for all of them, or job by job if
// the server is of 0.22.5.
func (s *session) usage(ctx context.Context, runs []string) ([]api.JobUsage, error) {
	jobs, err := s.Usage(ctx, runs)
	if e, ok := errors.AsType[*client.APIError](err); !ok || (e.Status != http.StatusNotFound && e.Status != http.StatusMethodNotAllowed) {
		return jobs, err
	}
	list, err := s.namedRuns(ctx, runs)
	if err != nil {
		return nil, err
	}
	jobs = nil
	for _, run := range list {
		for _, job := range run.Jobs {
			if n := len(job.JobSubmissions); n > 0 && job.JobSubmissions[n-1].Status == api.JobRunning {
				jobs = append(jobs, placeOf(run, job))
			}
		}
	}
	calls, callCtx := errgroup.WithContext(ctx)
	calls.SetLimit(topCalls)
	for i := range jobs {
		calls.Go(func() error {
			m, err := s.JobMetrics(callCtx, jobs[i].RunName, jobs[i].ReplicaNum, jobs[i].JobNum, 1)
			if client.IsNotExist(err) { // it ended just now
				return nil
			}
			render.ReadUsage(&jobs[i], m.Metrics)
			return err
		})
	}
	return jobs, calls.Wait()
}

// namedRuns finds runs by name, or all active ones.
func (s *session) namedRuns(ctx context.Context, names []string) ([]api.Run, error) {
	if len(names) == 0 {
		return s.ListRuns(ctx, true, listLimit)
	}
	runs := make([]api.Run, len(names))
	for i, name := range names {
		var err error
		if runs[i], err = s.findRun(ctx, name); err != nil {
			return nil, err
		}
	}
	return runs, nil
}

// placeOf is what a run tells of where its job is.
func placeOf(run api.Run, job api.Job) api.JobUsage {
	out := api.JobUsage{
		RunName: runName(run), ReplicaNum: job.JobSpec.ReplicaNum, JobNum: job.JobSpec.JobNum, JobName: job.JobSpec.JobName, User: run.User,
	}
	latest := job.JobSubmissions[len(job.JobSubmissions)-1]
	if where := latest.JobProvisioningData; where != nil {
		out.Backend, out.Region = where.Backend, where.Region
		for _, gpu := range where.InstanceType.Resources.GPUs {
			out.GPUs = append(out.GPUs, api.JobGPUUsage{Name: gpu.Name, MemoryTotalBytes: int64(gpu.MemoryMiB) << 20})
		}
	}
	return out
}
