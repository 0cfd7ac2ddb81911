package api

import "dstack/protocol/config"

// SweepRequest is the body of server/sweep, which 0.22.5 does not have.
type SweepRequest struct {
	// Confirm are ids of machines and addresses that shall end.
	Confirm config.List[string] `json:"confirm"`
	// ConfirmVolumes are ids of volumes that shall be deleted.
	ConfirmVolumes config.List[string] `json:"confirm_volumes,omitempty"`
}

// SweepReport is what carries this server's tag and is nobody's.
type SweepReport struct {
	Machines config.List[StrayMachine] `json:"machines"`
	// Missing says of which accounts nothing is known, a sentence each.
	Missing config.List[string] `json:"missing"`
}

// StrayMachine is a machine of a cloud that no fleet has, a volume that no
// project has, or an address that outlived its machine.
type StrayMachine struct {
	// Kind is "volume" or "address"; empty for a machine.
	Kind string `json:"kind,omitempty"`
	// ID is what SweepRequest.Confirm names; InstanceID is the cloud's.
	ID           string `json:"id"`
	ProjectName  string `json:"project_name"`
	Backend      string `json:"backend"`
	Region       string `json:"region"`
	InstanceID   string `json:"instance_id"`
	Name         string `json:"name"`
	InstanceType string `json:"instance_type"`
	Spot         bool   `json:"spot"`
	// Price is in USD an hour; null if it is not known.
	Price     *float64 `json:"price"`
	CreatedAt *Time    `json:"created_at"`
	FoundAt   Time     `json:"found_at"`
	// Held is why it goes on, as the end of a sentence; null if it is being
	// ended.
	Held *string `json:"held"`
	// Trouble is why the cloud has not ended it yet.
	Trouble *string `json:"trouble"`
}
