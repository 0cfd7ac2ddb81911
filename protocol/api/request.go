package api

import "encoding/json"

// The requests below are the bodies of the calls of the same name
// (spec: rest-api.md 7). A pointer or a nil list means "absent": the doc
// comment gives the default. Lists and booleans without a pointer have the
// zero value as their default. Fields tagged as:"uuid" are accepted with or
// without dashes and held in lower case with dashes; null:"no" refuses an
// explicit null where the field may be absent.

// ListFleetsRequest is the body of fleets/list.
type ListFleetsRequest struct {
	ProjectName     *string `json:"project_name,omitempty"`
	OnlyActive      bool    `json:"only_active,omitempty"`
	IncludeImported bool    `json:"include_imported,omitempty"`
	PrevCreatedAt   *Time   `json:"prev_created_at,omitempty"`
	PrevID          *string `json:"prev_id,omitempty" as:"uuid"`
	// Limit is 0..100, 100 if absent.
	Limit     *int `json:"limit,omitempty" null:"no"`
	Ascending bool `json:"ascending,omitempty"`
}

// ListProjectFleetsRequest is the optional body of project/{p}/fleets/list.
type ListProjectFleetsRequest struct {
	IncludeImported bool `json:"include_imported,omitempty"`
}

// GetFleetRequest asks for a fleet by name or, before that, by id.
type GetFleetRequest struct {
	Name *string `json:"name"`
	ID   *string `json:"id,omitempty" as:"uuid"`
}

// GetFleetPlanRequest asks what applying a fleet would do.
type GetFleetPlanRequest struct {
	Spec FleetSpec `json:"spec"`
}

// ApplyFleetPlanRequest creates or updates a fleet.
type ApplyFleetPlanRequest struct {
	Plan  ApplyFleetPlanInput `json:"plan"`
	Force bool                `json:"force"`
}

// ApplyFleetPlanInput is the wish and what the client believes exists.
type ApplyFleetPlanInput struct {
	Spec            FleetSpec `json:"spec"`
	CurrentResource *Fleet    `json:"current_resource"`
}

// DeleteFleetsRequest names the fleets to delete.
type DeleteFleetsRequest struct {
	Names []string `json:"names"`
}

// DeleteFleetInstancesRequest names the instances of a fleet to delete.
type DeleteFleetInstancesRequest struct {
	Name         string `json:"name"`
	InstanceNums []int  `json:"instance_nums"`
}

// ListInstancesRequest is the body of instances/list.
type ListInstancesRequest struct {
	ProjectNames    []string `json:"project_names,omitempty"`
	FleetIDs        []string `json:"fleet_ids,omitempty" as:"uuid"`
	OnlyActive      bool     `json:"only_active,omitempty"`
	IncludeImported bool     `json:"include_imported,omitempty"`
	PrevCreatedAt   *Time    `json:"prev_created_at,omitempty"`
	PrevID          *string  `json:"prev_id,omitempty" as:"uuid"`
	// Limit is 1000 if absent.
	Limit     *int `json:"limit,omitempty" null:"no"`
	Ascending bool `json:"ascending,omitempty"`
}

// GetRunPlanRequest asks what applying a run would do.
type GetRunPlanRequest struct {
	RunSpec RunSpec `json:"run_spec"`
	// MaxOffers is 1..10000, 50 if absent.
	MaxOffers            *int `json:"max_offers,omitempty"`
	ReverseOffers        bool `json:"reverse_offers,omitempty"`
	FullOffers           bool `json:"full_offers,omitempty"`
	UnallocatedResources bool `json:"unallocated_resources,omitempty"`
	ForOffersOnly        bool `json:"for_offers_only,omitempty"`
}

// ApplyRunPlanRequest submits or updates a run.
type ApplyRunPlanRequest struct {
	Plan  ApplyRunPlanInput `json:"plan"`
	Force bool              `json:"force"`
}

// ApplyRunPlanInput is the wish and what the client believes exists.
type ApplyRunPlanInput struct {
	RunSpec         RunSpec `json:"run_spec"`
	CurrentResource *Run    `json:"current_resource"`
}

// ListRunsRequest is the body of runs/list.
type ListRunsRequest struct {
	ProjectName *string `json:"project_name,omitempty"`
	RepoID      *string `json:"repo_id,omitempty"`
	Username    *string `json:"username,omitempty"`
	OnlyActive  bool    `json:"only_active,omitempty"`
	// IncludeJobs is true if absent.
	IncludeJobs *bool `json:"include_jobs,omitempty" null:"no"`
	// JobSubmissionsLimit is 0..10, 10 if absent.
	JobSubmissionsLimit *int    `json:"job_submissions_limit,omitempty"`
	PrevSubmittedAt     *Time   `json:"prev_submitted_at,omitempty"`
	PrevRunID           *string `json:"prev_run_id,omitempty" as:"uuid"`
	// Limit is 0..100, 100 if absent.
	Limit     *int `json:"limit,omitempty" null:"no"`
	Ascending bool `json:"ascending,omitempty"`
}

// GetRunRequest asks for a run by name or, before that, by id.
type GetRunRequest struct {
	RunName *string `json:"run_name"`
	ID      *string `json:"id,omitempty" as:"uuid"`
}

// StopRunsRequest stops or, with Abort, kills runs.
type StopRunsRequest struct {
	RunsNames []string `json:"runs_names"`
	Abort     bool     `json:"abort"`
}

// DeleteRunsRequest names the runs to delete.
type DeleteRunsRequest struct {
	RunsNames []string `json:"runs_names"`
}

// GetRepoRequest asks for a repo, maybe with the caller's credentials.
type GetRepoRequest struct {
	RepoID       string `json:"repo_id"`
	IncludeCreds bool   `json:"include_creds"`
}

// SaveRepoCredsRequest is the body of repos/init.
type SaveRepoCredsRequest struct {
	RepoID    string           `json:"repo_id"`
	RepoInfo  json.RawMessage  `json:"repo_info"`
	RepoCreds *RemoteRepoCreds `json:"repo_creds,omitempty"`
}

// GetFileArchiveByHashRequest asks for an archive of the caller by its SHA-256.
type GetFileArchiveByHashRequest struct {
	Hash string `json:"hash"`
}

// ListEventsRequest is the body of events/list. At most one Target and one
// Within list may be set, each with 1..16 ids.
type ListEventsRequest struct {
	TargetProjects        []string `json:"target_projects,omitempty" as:"uuid"`
	TargetUsers           []string `json:"target_users,omitempty" as:"uuid"`
	TargetFleets          []string `json:"target_fleets,omitempty" as:"uuid"`
	TargetInstances       []string `json:"target_instances,omitempty" as:"uuid"`
	TargetRuns            []string `json:"target_runs,omitempty" as:"uuid"`
	TargetJobs            []string `json:"target_jobs,omitempty" as:"uuid"`
	TargetVolumes         []string `json:"target_volumes,omitempty" as:"uuid"`
	TargetGateways        []string `json:"target_gateways,omitempty" as:"uuid"`
	TargetGatewayReplicas []string `json:"target_gateway_replicas,omitempty" as:"uuid"`
	TargetSecrets         []string `json:"target_secrets,omitempty" as:"uuid"`
	TargetPresets         []string `json:"target_presets,omitempty" as:"uuid"`
	WithinProjects        []string `json:"within_projects,omitempty" as:"uuid"`
	WithinFleets          []string `json:"within_fleets,omitempty" as:"uuid"`
	WithinRuns            []string `json:"within_runs,omitempty" as:"uuid"`
	WithinGateways        []string `json:"within_gateways,omitempty" as:"uuid"`
	IncludeTargetTypes    []string `json:"include_target_types,omitempty"`
	// Actors are user ids; a nil element is the system.
	Actors         []*string `json:"actors,omitempty" as:"uuid"`
	PrevRecordedAt *Time     `json:"prev_recorded_at,omitempty"`
	PrevID         *string   `json:"prev_id,omitempty" as:"uuid"`
	// Limit is 1..100, 100 if absent.
	Limit     *int `json:"limit,omitempty" null:"no"`
	Ascending bool `json:"ascending,omitempty"`
}
