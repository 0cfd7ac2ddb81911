package client

import (
	"context"
	"net/url"

	"dstack/protocol/api"
)

// Project calls a server on behalf of one of its projects.
type Project struct {
	*Client

	name string
}

func (p *Project) path(rest string) string {
	return "/api/project/" + url.PathEscape(p.name) + "/" + rest
}

// none is the answer null.
type none struct{}

// do makes a call without an answer.
func (p *Project) do(ctx context.Context, e endpoint, in any) error {
	_, err := call[*none](ctx, p.Client, e, in)
	return err
}

// GetProject gives the project with its members.
func (p *Project) GetProject(ctx context.Context) (api.Project, error) {
	return call[api.Project](ctx, p.Client, read("/api/projects/"+url.PathEscape(p.name)+"/get"), nil)
}

// PlanRun asks what applying a run would do.
func (p *Project) PlanRun(ctx context.Context, req api.GetRunPlanRequest) (api.RunPlan, error) {
	return call[api.RunPlan](ctx, p.Client, read(p.path("runs/get_plan")), req)
}

// ApplyRun submits or updates a run. It is not repeated after a lost answer:
// a run without a name would be submitted twice.
func (p *Project) ApplyRun(ctx context.Context, req api.ApplyRunPlanRequest) (api.Run, error) {
	return call[api.Run](ctx, p.Client, write(p.path("runs/apply")), req)
}

// GetRun gives the run of that name; see [IsNotExist].
func (p *Project) GetRun(ctx context.Context, name string) (api.Run, error) {
	return call[api.Run](ctx, p.Client, read(p.path("runs/get")), api.GetRunRequest{RunName: &name})
}

// GetRunByID gives a run, even a deleted one.
func (p *Project) GetRunByID(ctx context.Context, id string) (api.Run, error) {
	return call[api.Run](ctx, p.Client, read(p.path("runs/get")), api.GetRunRequest{ID: &id})
}

// pageSize is the most runs that one call gives.
const pageSize = 100

// ListRuns gives up to limit runs of the project, newest first, each with its
// latest submissions only.
func (p *Project) ListRuns(ctx context.Context, onlyActive bool, limit int) ([]api.Run, error) {
	one := 1
	req := api.ListRunsRequest{ProjectName: &p.name, OnlyActive: onlyActive, JobSubmissionsLimit: &one}
	var runs []api.Run
	for len(runs) < limit {
		size := min(limit-len(runs), pageSize)
		req.Limit = &size
		page, err := p.ListAllRuns(ctx, req)
		if err != nil {
			return nil, err
		}
		runs = append(runs, page...)
		if len(page) < size {
			break
		}
		last := &runs[len(runs)-1]
		req.PrevSubmittedAt, req.PrevRunID = &last.SubmittedAt, &last.ID
	}
	return runs, nil
}

// ExplainRun tells why a run waits, runs or ended, and judges every candidate.
func (p *Project) ExplainRun(ctx context.Context, name string) (api.RunWhy, error) {
	return call[api.RunWhy](ctx, p.Client, read(p.path("runs/why")), api.WhyRequest{RunName: name})
}

// StopRuns stops runs with their grace or, with abort, at once.
func (p *Project) StopRuns(ctx context.Context, names []string, abort bool) error {
	return p.do(ctx, read(p.path("runs/stop")), api.StopRunsRequest{RunsNames: names, Abort: abort})
}

// DeleteRuns deletes finished runs.
func (p *Project) DeleteRuns(ctx context.Context, names []string) error {
	return p.do(ctx, read(p.path("runs/delete")), api.DeleteRunsRequest{RunsNames: names})
}

// PollLogs gives one page of a job's log.
func (p *Project) PollLogs(ctx context.Context, req api.PollLogsRequest) (api.JobSubmissionLogs, error) {
	return call[api.JobSubmissionLogs](ctx, p.Client, read(p.path("logs/poll")), req)
}

// PlanFleet asks what applying a fleet would do.
func (p *Project) PlanFleet(ctx context.Context, spec api.FleetSpec) (api.FleetPlan, error) {
	return call[api.FleetPlan](ctx, p.Client, read(p.path("fleets/get_plan")), api.GetFleetPlanRequest{Spec: spec})
}

// ApplyFleet creates or updates a fleet.
func (p *Project) ApplyFleet(ctx context.Context, req api.ApplyFleetPlanRequest) (api.Fleet, error) {
	return call[api.Fleet](ctx, p.Client, write(p.path("fleets/apply")), req)
}

// GetFleet gives the fleet of that name; see [IsNotExist].
func (p *Project) GetFleet(ctx context.Context, name string) (api.Fleet, error) {
	return call[api.Fleet](ctx, p.Client, read(p.path("fleets/get")), api.GetFleetRequest{Name: &name})
}

// GetFleetByID gives a fleet, even a deleted one.
func (p *Project) GetFleetByID(ctx context.Context, id string) (api.Fleet, error) {
	return call[api.Fleet](ctx, p.Client, read(p.path("fleets/get")), api.GetFleetRequest{ID: &id})
}

// ListFleets gives the project's fleets.
func (p *Project) ListFleets(ctx context.Context) ([]api.Fleet, error) {
	return call[[]api.Fleet](ctx, p.Client, read(p.path("fleets/list")), api.ListProjectFleetsRequest{IncludeImported: true})
}

// DeleteFleets starts the deletion of fleets; poll GetFleet for its end.
func (p *Project) DeleteFleets(ctx context.Context, names []string) error {
	return p.do(ctx, read(p.path("fleets/delete")), api.DeleteFleetsRequest{Names: names})
}

// DeleteInstances starts the deletion of some instances of a fleet.
func (p *Project) DeleteInstances(ctx context.Context, fleet string, nums []int) error {
	return p.do(ctx, read(p.path("fleets/delete_instances")), api.DeleteFleetInstancesRequest{Name: fleet, InstanceNums: nums})
}

// ListGPUs asks which accelerators a run could get.
func (p *Project) ListGPUs(ctx context.Context, req api.ListGPUsRequest) (api.ListGPUsResponse, error) {
	return call[api.ListGPUsResponse](ctx, p.Client, read(p.path("gpus/list")), req)
}
