package api

// RelayQuery chooses the job that a relay leads to.
type RelayQuery struct {
	// Replica is one that runs if absent, else the first.
	Replica *int `json:"replica"`
	Job     int  `json:"job,omitempty"`
}
