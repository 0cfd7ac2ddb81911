package api

import "dstack/protocol/config"

// WhyRequest is the body of runs/why, which 0.22.5 does not have.
type WhyRequest struct {
	RunName string `json:"run_name"`
}

// RunWhy tells why a run is in its state, and what every candidate has to do
// with it. Codes are values of package reason, or reasons of runs and jobs.
type RunWhy struct {
	RunID   string    `json:"run_id"`
	RunName string    `json:"run_name"`
	Status  RunStatus `json:"status"`
	// Code is the reason, State a sentence with it, Next what to do.
	Code  string              `json:"code"`
	State string              `json:"state"`
	Next  string              `json:"next"`
	Jobs  config.List[JobWhy] `json:"jobs"`
	// Candidates are judged as of now, also for a run that ended.
	Candidates config.List[Candidate] `json:"candidates"`
}

// JobWhy tells why the newest submission of a job is in its state.
type JobWhy struct {
	JobName       string    `json:"job_name"`
	SubmissionID  string    `json:"submission_id"`
	SubmissionNum int       `json:"submission_num"`
	Status        JobStatus `json:"status"`
	Code          string    `json:"code"`
	State         string    `json:"state"`
	Next          string    `json:"next"`
	// Message is what was said of the end, if it ended.
	Message *string `json:"message"`
}

// Values of Candidate.Verdict.
const (
	CandidateFits     = "fits"
	CandidateBusy     = "busy"
	CandidateRejected = "rejected"
)

// Candidate is a fleet, an instance, or what a backend offers, judged for one
// job of a run. The other jobs that need the same get the same verdict.
type Candidate struct {
	JobName string `json:"job_name"`
	Fleet   string `json:"fleet"`
	// Instance is null for a fleet as a whole.
	Instance *string `json:"instance"`
	Backend  *string `json:"backend"`
	Verdict  string  `json:"verdict"`
	// Code, Reason and Next are empty for one that fits.
	Code   string `json:"code"`
	Reason string `json:"reason"`
	Next   string `json:"next"`
	// Offers is how many offers of the backend this is about; 0 if it is about
	// something that exists. Type, Region and Price are those of the cheapest.
	Offers int     `json:"offers,omitempty"`
	Type   string  `json:"type,omitempty"`
	Region string  `json:"region,omitempty"`
	Price  float64 `json:"price,omitempty"`
}
