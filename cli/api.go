package cli

import (
	"context"
	"encoding/json"

	"dstack/protocol/api"
)

// API is what the commands ask of one project of a server; the package
// client has it all.
type API interface {
	MyUser(ctx context.Context) (api.UserWithCreds, error)
	GetProject(ctx context.Context) (api.Project, error)
	InitRepo(ctx context.Context, repoID string, info json.RawMessage) error

	PlanRun(ctx context.Context, req api.GetRunPlanRequest) (api.RunPlan, error)
	ApplyRun(ctx context.Context, req api.ApplyRunPlanRequest) (api.Run, error)
	GetRun(ctx context.Context, name string) (api.Run, error)
	GetRunByID(ctx context.Context, id string) (api.Run, error)
	// WatchRun calls fn with the run at once and after each change, until it
	// is finished, fn fails or ctx ends.
	WatchRun(ctx context.Context, id string, fn func(api.Run) error) error
	ListRuns(ctx context.Context, onlyActive bool, limit int) ([]api.Run, error)
	StopRuns(ctx context.Context, names []string, abort bool) error
	DeleteRuns(ctx context.Context, names []string) error

	PollLogs(ctx context.Context, req api.PollLogsRequest) (api.JobSubmissionLogs, error)
	// FollowLogs calls fn with each piece of a submission's log until the
	// log is complete, fn fails or ctx ends.
	FollowLogs(ctx context.Context, req api.FollowLogsRequest, fn func(api.LogChunk) error) error

	PlanFleet(ctx context.Context, spec api.FleetSpec) (api.FleetPlan, error)
	ApplyFleet(ctx context.Context, req api.ApplyFleetPlanRequest) (api.Fleet, error)
	GetFleet(ctx context.Context, name string) (api.Fleet, error)
	GetFleetByID(ctx context.Context, id string) (api.Fleet, error)
	ListFleets(ctx context.Context) ([]api.Fleet, error)
	DeleteFleets(ctx context.Context, names []string) error
	DeleteInstances(ctx context.Context, fleet string, nums []int) error

	ListEvents(ctx context.Context, req api.ListEventsRequest) ([]api.Event, error)
}
