package api

import (
	"encoding/json"

	"dstack/protocol/config"
)

// LogEvent is a piece of a job's log; Message is base64 (spec: rest-api.md 11.1).
type LogEvent struct {
	Timestamp Time   `json:"timestamp"`
	LogSource string `json:"log_source"`
	Message   string `json:"message"`
}

// JobSubmissionLogs is one page of a log; a nil NextToken means no more now.
type JobSubmissionLogs struct {
	Logs        config.List[LogEvent] `json:"logs"`
	ExternalURL *string               `json:"external_url"`
	NextToken   *string               `json:"next_token"`
}

// PollLogsRequest asks for one page of a log.
type PollLogsRequest struct {
	RunName         string  `json:"run_name"`
	JobSubmissionID string  `json:"job_submission_id" as:"uuid"`
	StartTime       *Time   `json:"start_time"`
	EndTime         *Time   `json:"end_time"`
	Descending      bool    `json:"descending,omitempty"`
	NextToken       *string `json:"next_token"`
	// Limit is 0..1000, 100 if absent.
	Limit    *int `json:"limit,omitempty"`
	Diagnose bool `json:"diagnose,omitempty"`
}

// Event is something that happened, with who did it and to what.
type Event struct {
	ID                 string                   `json:"id"`
	Message            string                   `json:"message"`
	RecordedAt         Time                     `json:"recorded_at"`
	ActorUserID        *string                  `json:"actor_user_id"`
	ActorUser          *string                  `json:"actor_user"`
	IsActorUserDeleted *bool                    `json:"is_actor_user_deleted"`
	Targets            config.List[EventTarget] `json:"targets"`
}

// EventTarget is what an event is about. Type is one of project, user,
// fleet, instance, run, job, volume, gateway, gateway-replica, secret, preset.
type EventTarget struct {
	Type             string  `json:"type"`
	ProjectID        *string `json:"project_id"`
	ProjectName      *string `json:"project_name"`
	IsProjectDeleted *bool   `json:"is_project_deleted"`
	ID               string  `json:"id"`
	Name             string  `json:"name"`
}

// ServerInfo is the answer of server/get_info.
type ServerInfo struct {
	ServerVersion string `json:"server_version"`
}

// RepoHeadWithCreds is a repo with the caller's credentials for it.
// RepoInfo is kept as it came: its shape depends on its repo_type.
type RepoHeadWithCreds struct {
	RepoID    string           `json:"repo_id"`
	RepoInfo  json.RawMessage  `json:"repo_info"`
	RepoCreds *RemoteRepoCreds `json:"repo_creds"`
}

// RemoteRepoCreds lets a job clone a repo.
type RemoteRepoCreds struct {
	CloneURL   string  `json:"clone_url"`
	PrivateKey *string `json:"private_key"`
	OAuthToken *string `json:"oauth_token"`
}

// FileArchive is an uploaded tar file; Hash is its SHA-256 in hex.
type FileArchive struct {
	ID   string `json:"id"`
	Hash string `json:"hash"`
}
