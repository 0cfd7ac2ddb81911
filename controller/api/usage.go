package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// maxUsageRuns bounds how many active runs are told about.
const maxUsageRuns = 1000

// usage tells what the running jobs of a project use now, all in one answer,
// so that a view of many jobs costs one request for each picture.
func (a *API) usage(ctx context.Context, c call, in api.UsageRequest) (api.ProjectUsage, error) {
	out := api.ProjectUsage{Jobs: []api.JobUsage{}}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		owners, err := usageRuns(tx, c.Project.ID, in.RunNames)
		if err != nil {
			return err
		}
		jobs, err := tx.JobsByRuns(slices.Collect(maps.Keys(owners)), 1)
		if err != nil {
			return fmt.Errorf("list jobs: %w", err)
		}
		for i := range jobs {
			if jobs[i].Status != api.JobRunning {
				continue
			}
			points, err := tx.Metrics(store.MetricsFilter{JobID: jobs[i].ID, Limit: 2})
			if err != nil {
				return fmt.Errorf("read metrics: %w", err)
			}
			one := jobUsage(&jobs[i], points)
			one.User = owners[jobs[i].RunID]
			out.Jobs = append(out.Jobs, one)
		}
		return nil
	})
	slices.SortStableFunc(out.Jobs, func(x, y api.JobUsage) int { return strings.Compare(x.RunName, y.RunName) })
	return out, err
}

// usageRuns finds runs by name, or all active ones, and whose they are: ids
// of runs with names of users.
func usageRuns(tx *store.Tx, projectID string, names []string) (map[string]string, error) {
	owners := map[string]string{}
	if len(names) == 0 {
		heads, err := tx.RunHeads(store.RunFilter{ProjectIDs: []string{projectID}, OnlyActive: true, Page: store.Page{Limit: maxUsageRuns}})
		if err != nil {
			return nil, fmt.Errorf("list runs: %w", err)
		}
		for _, run := range heads {
			owners[run.ID] = run.User
		}
		return owners, nil
	}
	for _, name := range names {
		run, err := findRun(tx, projectID, &name, nil)
		if err != nil {
			return nil, err
		}
		user, err := tx.User(run.UserID)
		if err != nil {
			return nil, fmt.Errorf("find user: %w", err)
		}
		owners[run.ID] = user.Name
	}
	return owners, nil
}

// jobUsage reads the newest values of a job; points are the newest two.
func jobUsage(j *store.Job, points []store.MetricsPoint) api.JobUsage {
	out := api.JobUsage{
		RunName: j.RunName, ReplicaNum: j.ReplicaNum, JobNum: j.JobNum, JobName: j.Spec.JobName, GPUs: []api.JobGPUUsage{},
	}
	if j.Provisioning != nil {
		out.Backend, out.Region = j.Provisioning.Backend, j.Provisioning.Region
	}
	if j.RunningAt != nil {
		out.RunningSince = new(api.At(*j.RunningAt))
	}
	r := resourcesOf(j)
	if r != nil {
		out.CPUs, out.MemoryTotalBytes = r.CPUs, int64(r.MemoryMiB)<<20
	}
	if len(points) > 1 {
		out.CPUPercent = new(load(points[0], points[1]))
	}
	if len(points) == 0 {
		return out
	}
	newest := points[0]
	out.MeasuredAt, out.MemoryBytes = new(api.At(newest.At)), newest.WorkingSetBytes
	for n, used := range newest.GPUs {
		gpu := api.JobGPUUsage{MemoryBytes: used.MemoryBytes}
		if used.UtilPercent >= 0 {
			gpu.UtilPercent = new(used.UtilPercent)
		}
		if r != nil && n < len(r.GPUs) {
			gpu.Name, gpu.MemoryTotalBytes = r.GPUs[n].Name, int64(r.GPUs[n].MemoryMiB)<<20
		}
		out.GPUs = append(out.GPUs, gpu)
	}
	return out
}
