package api

import (
	"encoding/json"

	"dstack/protocol/config"
)

// RunStatus is the state of a run (spec: rest-api.md 10).
type RunStatus string

// Run statuses; the last three are final.
const (
	RunPending      RunStatus = "pending"
	RunSubmitted    RunStatus = "submitted"
	RunProvisioning RunStatus = "provisioning"
	RunRunning      RunStatus = "running"
	RunTerminating  RunStatus = "terminating"
	RunTerminated   RunStatus = "terminated"
	RunFailed       RunStatus = "failed"
	RunDone         RunStatus = "done"
)

// Finished says whether the status is final.
func (s RunStatus) Finished() bool {
	return s == RunTerminated || s == RunFailed || s == RunDone
}

// JobStatus is the state of one job submission (spec: rest-api.md 10).
type JobStatus string

// Job statuses; the last four are final.
const (
	JobSubmitted    JobStatus = "submitted"
	JobProvisioning JobStatus = "provisioning"
	JobPulling      JobStatus = "pulling"
	JobRunning      JobStatus = "running"
	JobTerminating  JobStatus = "terminating"
	JobTerminated   JobStatus = "terminated"
	JobAborted      JobStatus = "aborted"
	JobFailed       JobStatus = "failed"
	JobDone         JobStatus = "done"
)

// Finished says whether the status is final.
func (s JobStatus) Finished() bool {
	switch s {
	case JobTerminated, JobAborted, JobFailed, JobDone:
		return true
	}
	return false
}

// RunReason is why a run ended (spec: rest-api.md 10).
type RunReason string

// Reasons for which a run ends.
const (
	ReasonAllJobsDone        RunReason = "all_jobs_done"
	ReasonJobFailed          RunReason = "job_failed"
	ReasonRetryLimitExceeded RunReason = "retry_limit_exceeded"
	ReasonStoppedByUser      RunReason = "stopped_by_user"
	ReasonAbortedByUser      RunReason = "aborted_by_user"
	ReasonServerError        RunReason = "server_error"
	ReasonRunGatewayError    RunReason = "gateway_error"
)

// JobReason is why a job ended (spec: rest-api.md 10).
type JobReason string

// Reasons for which a job ends.
const (
	ReasonNoCapacity          JobReason = "failed_to_start_due_to_no_capacity"
	ReasonInterrupted         JobReason = "interrupted_by_no_capacity"
	ReasonInstanceUnreachable JobReason = "instance_unreachable"
	ReasonWaitingInstance     JobReason = "waiting_instance_limit_exceeded"
	ReasonWaitingRunner       JobReason = "waiting_runner_limit_exceeded"
	ReasonAccessRevoked       JobReason = "instance_access_revoked"
	ReasonVolumeError         JobReason = "volume_error"
	ReasonGatewayError        JobReason = "gateway_error"
	ReasonContainerError      JobReason = "container_exited_with_error"
	ReasonPortsBindingFailed  JobReason = "ports_binding_failed"
	ReasonCreatingContainer   JobReason = "creating_container_error"
	ReasonExecutorError       JobReason = "executor_error"
	ReasonLogQuota            JobReason = "log_quota_exceeded"
	ReasonTerminatedByUser    JobReason = "terminated_by_user"
	ReasonTerminatedByServer  JobReason = "terminated_by_server"
	ReasonScaledDown          JobReason = "scaled_down"
	ReasonInactivity          JobReason = "inactivity_duration_exceeded"
	ReasonUtilization         JobReason = "terminated_due_to_utilization_policy"
	ReasonMaxDuration         JobReason = "max_duration_exceeded"
	ReasonJobAbortedByUser    JobReason = "aborted_by_user"
	ReasonDoneByRunner        JobReason = "done_by_runner"
)

// RunSpec is what a user submits: configuration, profile and repo state.
type RunSpec struct {
	RunName           *string                         `json:"run_name"`
	RepoID            *string                         `json:"repo_id"`
	RepoData          *RepoData                       `json:"repo_data"`
	RepoCodeHash      *string                         `json:"repo_code_hash"`
	RepoDir           *string                         `json:"repo_dir"`
	FileArchives      config.List[FileArchiveMapping] `json:"file_archives"`
	WorkingDir        *string                         `json:"working_dir"`
	ConfigurationPath *string                         `json:"configuration_path"`
	Configuration     config.Run                      `json:"configuration"`
	Profile           *config.Profile                 `json:"profile"`
	SSHKeyPub         *string                         `json:"ssh_key_pub"`
}

// Params gives the run's effective profile parameters: what the
// configuration sets, else what the profile says.
func (s RunSpec) Params() config.ProfileParams {
	p := s.Configuration.Params()
	if s.Profile != nil {
		p = p.Or(s.Profile.ProfileParams)
	}
	return p
}

// RepoData says which state of a repo a run uses; RepoType is "remote",
// "local" or "virtual" and decides which other fields are on the wire.
type RepoData struct {
	RepoType        string
	RepoName        string
	RepoBranch      *string
	RepoHash        *string
	RepoConfigName  *string
	RepoConfigEmail *string
	RepoDir         string
}

// FileArchiveMapping puts an uploaded archive at a path in the job.
type FileArchiveMapping struct {
	ID   string `json:"id"`
	Path string `json:"path"`
}

// Run is a run as clients see it.
type Run struct {
	ID                  string           `json:"id"`
	ProjectName         string           `json:"project_name"`
	User                string           `json:"user"`
	Fleet               *RunFleet        `json:"fleet"`
	SubmittedAt         Time             `json:"submitted_at"`
	LastProcessedAt     Time             `json:"last_processed_at"`
	Status              RunStatus        `json:"status"`
	StatusMessage       string           `json:"status_message"`
	TerminationReason   *string          `json:"termination_reason"`
	RunSpec             RunSpec          `json:"run_spec"`
	Jobs                config.List[Job] `json:"jobs"`
	LatestJobSubmission *JobSubmission   `json:"latest_job_submission"`
	Cost                float64          `json:"cost"`
	Service             *Service         `json:"service"`
	DeploymentNum       int              `json:"deployment_num"`
	Error               *string          `json:"error"`
	Deleted             bool             `json:"deleted"`
	NextTriggeredAt     *Time            `json:"next_triggered_at"`
}

// Service is where a service is reached. URL is absolute, or a path on the
// server if there is no gateway; Options are for gateways.
type Service struct {
	URL     string         `json:"url"`
	Model   *ServiceModel  `json:"model"`
	Options ServiceOptions `json:"options"`
}

// ServiceModel is the model that a service publishes.
type ServiceModel struct {
	Name    string `json:"name"`
	BaseURL string `json:"base_url"`
	Type    string `json:"type"`
}

// ServiceOptions is {"openai": {"model": ...}} for a service with a model,
// else {}.
type ServiceOptions struct {
	OpenAI *OpenAIOptions `json:"openai,omitempty"`
}

// OpenAIOptions describes the model of a service to a gateway.
type OpenAIOptions struct {
	Model config.Model `json:"model"`
}

// RunFleet is the fleet that a run was placed in.
type RunFleet struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Job is one replica × node of a run with its submissions, oldest first.
type Job struct {
	JobSpec           JobSpec                    `json:"job_spec"`
	JobSubmissions    config.List[JobSubmission] `json:"job_submissions"`
	JobConnectionInfo *JobConnectionInfo         `json:"job_connection_info"`
}

// JobSpec is what one job runs and needs, computed by the server from the
// run's specification.
type JobSpec struct {
	ReplicaNum        int                             `json:"replica_num"`
	JobNum            int                             `json:"job_num"`
	JobName           string                          `json:"job_name"`
	JobsPerReplica    int                             `json:"jobs_per_replica"`
	ReplicaGroup      string                          `json:"replica_group"`
	AppSpecs          []AppSpec                       `json:"app_specs"`
	User              *config.UnixUser                `json:"user"`
	Commands          config.List[string]             `json:"commands"`
	Env               config.Map[string]              `json:"env"`
	HomeDir           *string                         `json:"home_dir"`
	ImageName         string                          `json:"image_name"`
	Privileged        bool                            `json:"privileged"`
	SingleBranch      *bool                           `json:"single_branch"`
	MaxDuration       *int                            `json:"max_duration"`
	StopDuration      *int                            `json:"stop_duration"`
	UtilizationPolicy *config.UtilizationPolicy       `json:"utilization_policy"`
	RegistryAuth      *config.RegistryAuth            `json:"registry_auth"`
	Requirements      Requirements                    `json:"requirements"`
	Retry             *Retry                          `json:"retry"`
	Volumes           []config.Mount                  `json:"volumes"`
	SSHKey            *struct{}                       `json:"ssh_key"` // always null
	WorkingDir        *string                         `json:"working_dir"`
	RepoData          *RepoData                       `json:"repo_data"`
	RepoCodeHash      *string                         `json:"repo_code_hash"`
	RepoDir           string                          `json:"repo_dir"`
	RepoExistsAction  *string                         `json:"repo_exists_action"`
	FileArchives      config.List[FileArchiveMapping] `json:"file_archives"`
	ServicePort       *int                            `json:"service_port"`
	Probes            config.List[ProbeSpec]          `json:"probes"`
	NodeGroupIndex    int                             `json:"node_group_index"`
	NodeGroupName     string                          `json:"node_group_name"`
	NodeGroupJobIndex int                             `json:"node_group_job_index"`
}

// ProbeSpec is a probe of a replica with all defaults filled in; Timeout and
// Interval are seconds.
type ProbeSpec struct {
	Type       string                          `json:"type"`
	URL        string                          `json:"url"`
	Method     string                          `json:"method"`
	Headers    config.List[config.ProbeHeader] `json:"headers"`
	Body       *string                         `json:"body"`
	Timeout    int                             `json:"timeout"`
	Interval   int                             `json:"interval"`
	ReadyAfter int                             `json:"ready_after"`
	UntilReady bool                            `json:"until_ready"`
}

// Probe says how often in a row a probe succeeded.
type Probe struct {
	SuccessStreak int `json:"success_streak"`
}

// AppSpec is a port that the job serves.
type AppSpec struct {
	Port           int               `json:"port"`
	MapToPort      *int              `json:"map_to_port"`
	AppName        string            `json:"app_name"`
	URLPath        *string           `json:"url_path"`
	URLQueryParams map[string]string `json:"url_query_params"`
}

// Retry is the effective retry policy; Duration is seconds.
type Retry struct {
	OnEvents config.List[string] `json:"on_events"`
	Duration int                 `json:"duration"`
}

// Requirements is what an offer has to meet.
type Requirements struct {
	Resources      config.Resources  `json:"resources"`
	MaxPrice       *float64          `json:"max_price"`
	Spot           *bool             `json:"spot"`
	Reservation    *string           `json:"reservation"`
	Multinode      *bool             `json:"multinode"`
	BackendOptions []json.RawMessage `json:"backend_options"`
}

// JobSubmission is one attempt to run a job.
type JobSubmission struct {
	ID                       string               `json:"id"`
	SubmissionNum            int                  `json:"submission_num"`
	DeploymentNum            int                  `json:"deployment_num"`
	SubmittedAt              Time                 `json:"submitted_at"`
	LastProcessedAt          Time                 `json:"last_processed_at"`
	FinishedAt               *Time                `json:"finished_at"`
	InactivitySecs           *int                 `json:"inactivity_secs"`
	Status                   JobStatus            `json:"status"`
	StatusMessage            string               `json:"status_message"`
	TerminationReason        *string              `json:"termination_reason"`
	TerminationReasonMessage *string              `json:"termination_reason_message"`
	ExitStatus               *int                 `json:"exit_status"`
	JobProvisioningData      *JobProvisioningData `json:"job_provisioning_data"`
	JobRuntimeData           *JobRuntimeData      `json:"job_runtime_data"`
	Error                    *string              `json:"error"`
	Probes                   config.List[Probe]   `json:"probes"`
	ImagePullProgress        *ImagePullProgress   `json:"image_pull_progress"`
}

// ImagePullProgress counts bytes of an image that is being pulled.
type ImagePullProgress struct {
	DownloadedBytes   int64 `json:"downloaded_bytes"`
	ExtractedBytes    int64 `json:"extracted_bytes"`
	TotalBytes        int64 `json:"total_bytes"`
	IsTotalBytesFinal bool  `json:"is_total_bytes_final"`
}

// JobProvisioningData is where a job runs and how to reach its host.
type JobProvisioningData struct {
	Backend          string               `json:"backend"`
	BaseBackend      *string              `json:"base_backend"`
	InstanceType     InstanceType         `json:"instance_type"`
	InstanceID       string               `json:"instance_id"`
	Hostname         *string              `json:"hostname"`
	InternalIP       *string              `json:"internal_ip"`
	PublicIPEnabled  bool                 `json:"public_ip_enabled"`
	InstanceNetwork  *string              `json:"instance_network"`
	Region           string               `json:"region"`
	AvailabilityZone *string              `json:"availability_zone"`
	Reservation      *string              `json:"reservation"`
	Price            float64              `json:"price"`
	Username         string               `json:"username"`
	SSHPort          *int                 `json:"ssh_port"`
	Dockerized       bool                 `json:"dockerized"`
	SSHProxy         *SSHConnectionParams `json:"ssh_proxy"`
	BackendData      *string              `json:"backend_data"`
	GPUDriver        *GPUDriverInfo       `json:"gpu_driver"`
}

// SSHConnectionParams is an SSH jump host.
type SSHConnectionParams struct {
	Hostname string `json:"hostname"`
	Username string `json:"username"`
	Port     int    `json:"port"`
}

// GPUDriverInfo is the driver of a host's accelerators.
type GPUDriverInfo struct {
	Vendor  *string `json:"vendor"`
	Version string  `json:"version"`
}

// JobRuntimeData is what became known when the job started.
// Memory is gigabytes; Ports maps container to host ports.
type JobRuntimeData struct {
	NetworkMode string         `json:"network_mode"`
	GPU         *int           `json:"gpu"`
	CPU         *float64       `json:"cpu"`
	Memory      *float64       `json:"memory"`
	Ports       map[string]int `json:"ports"`
	VolumeNames []string       `json:"volume_names"`
	Offer       *Offer         `json:"offer"`
	WorkingDir  *string        `json:"working_dir"`
	Username    *string        `json:"username"`
}

// JobConnectionInfo tells how to reach a running job.
type JobConnectionInfo struct {
	IDEName            *string  `json:"ide_name"`
	AttachedIDEURL     *string  `json:"attached_ide_url"`
	ProxiedIDEURL      *string  `json:"proxied_ide_url"`
	AttachedSSHCommand []string `json:"attached_ssh_command"`
	ProxiedSSHCommand  []string `json:"proxied_ssh_command"`
	SSHProxyHostname   *string  `json:"sshproxy_hostname"`
	SSHProxyPort       *int     `json:"sshproxy_port"`
	SSHProxyUpstreamID *string  `json:"sshproxy_upstream_id"`
}

// RunPlan is what would happen if a run were applied.
type RunPlan struct {
	ProjectName      string               `json:"project_name"`
	User             string               `json:"user"`
	RunSpec          RunSpec              `json:"run_spec"`
	EffectiveRunSpec *RunSpec             `json:"effective_run_spec"`
	JobPlans         config.List[JobPlan] `json:"job_plans"`
	CurrentResource  *Run                 `json:"current_resource"`
	Action           string               `json:"action"`
	// Warnings are sentences for the user. Ours: 0.22.5 clients ignore it.
	Warnings config.List[string] `json:"warnings"`
}

// JobPlan is one job of a plan with the offers that it could use.
type JobPlan struct {
	JobSpec     JobSpec            `json:"job_spec"`
	Offers      config.List[Offer] `json:"offers"`
	TotalOffers int                `json:"total_offers"`
	MaxPrice    *float64           `json:"max_price"`
}
