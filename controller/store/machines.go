package store

import (
	"time"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

// Wish is what a machine of a cloud shall be. What its fleet allows counts
// besides, as it is when a machine is looked for.
type Wish struct {
	Requirements api.Requirements     `json:"requirements"`
	Profile      config.ProfileParams `json:"profile"`
	// JobID is the job submission for which it is made; empty for a machine
	// that the fleet itself is to have.
	JobID string `json:"job_id,omitempty"`
	// User is the name of who asked for it, for the machine's tags.
	User string `json:"user,omitempty"`
	// Near is the id of the instance that it has to be near to: same backend,
	// region, zone and placement group. It waits until that one has a machine.
	Near string `json:"near,omitempty"`
	// Nodes is how many machines are to be near each other, this one included.
	Nodes int `json:"nodes,omitempty"`
	// IdleSeconds is how long it may be unused; -1 is for ever.
	IdleSeconds int `json:"idle_seconds"`
	// Reserved is what is known of the reservation that is asked for.
	Reserved *Reserved `json:"reserved,omitempty"`
	// Images are public ones to be fetched while the server connects.
	Images []string `json:"images,omitempty"`
}

// Reserved is capacity that is paid for already, as its cloud says.
type Reserved struct {
	ID      string `json:"id"`
	Backend string `json:"backend,omitempty"`
	Region  string `json:"region,omitempty"`
	Zone    string `json:"zone,omitempty"`
	Type    string `json:"type,omitempty"`
	// Block says that it is a capacity block, which takes no placement group.
	Block bool `json:"block,omitempty"`
	// Missing is a part of a sentence: why it cannot be used.
	Missing string `json:"missing,omitempty"`
}

// PlacementGroup keeps the machines of a cluster close together.
type PlacementGroup struct {
	Backend string `json:"backend"`
	Region  string `json:"region"`
	Name    string `json:"name"`
}

// Machine is one attempt to rent a machine, or what was rented. It stays until
// the cloud says that nothing of it is left.
type Machine struct {
	Backend string `json:"backend"`
	// Token was committed before the cloud was asked: at most one machine comes
	// of it.
	Token string `json:"token"`
	// Name is what the cloud's console shows.
	Name string `json:"name"`
	// ID is the cloud's, empty until it answered; Data is the driver's own.
	ID     string `json:"id,omitempty"`
	Region string `json:"region"`
	Zone   string `json:"zone,omitempty"`
	Data   string `json:"data,omitempty"`
	// Offer is what was asked for, with its disk and the price of all; Family is
	// what the cloud's limits count it as.
	Offer  api.Offer `json:"offer"`
	Family string    `json:"family,omitempty"`
	DiskGB int       `json:"disk_gb"`
	// Zones are those that the wish allows; none means every one.
	Zones          []string `json:"zones,omitempty"`
	PlacementGroup string   `json:"placement_group,omitempty"`
	Reservation    string   `json:"reservation,omitempty"`
	// HostKey is the SSH host key with which the machine boots, private (PEM)
	// and public. The private part goes with user-data only and is forgotten
	// when the host has made its own.
	HostKey       string `json:"host_key,omitempty"`
	HostKeyPublic string `json:"host_key_public"`
	// Tags are those that it was asked for with; the fleet's may change.
	Tags map[string]string `json:"tags"`
	// Keeper is the tag of the server that looks after it: the one that asked for
	// it, or whose connection its host took since. A database that was copied
	// knows machines that another server looks after. Empty is an unknown one.
	Keeper string `json:"keeper"`
	// AskedBy names the process that committed the token: of the calls that
	// another one made, nobody knows how they ended.
	AskedBy string `json:"asked_by"`
	// AskedAt is when the token was committed, CreatedAt when the cloud answered
	// with an id, AddressAt when the address became known.
	AskedAt   time.Time  `json:"asked_at"`
	CreatedAt *time.Time `json:"created_at,omitempty"`
	AddressAt *time.Time `json:"address_at,omitempty"`
	// ReachedAt is when it was first reached over SSH, ShimAt when its shim first
	// answered.
	ReachedAt *time.Time `json:"reached_at,omitempty"`
	ShimAt    *time.Time `json:"shim_at,omitempty"`
	// ReadyAt is when it came into service.
	ReadyAt *time.Time `json:"ready_at,omitempty"`
	// DoubtAt is when the last call ended of which nobody knows whether it acted.
	DoubtAt *time.Time `json:"doubt_at,omitempty"`
	// DroppedAt is when the attempt was given up without an id, and Why says why:
	// what may have come of it is deleted by its token before another is made.
	DroppedAt *time.Time `json:"dropped_at,omitempty"`
	Why       string     `json:"why,omitempty"`
	// EndedAt is when the cloud said that the machine ends or ended by itself,
	// Said what it said about that, Interrupted that it took a spot machine back.
	EndedAt     *time.Time `json:"ended_at,omitempty"`
	Said        string     `json:"said,omitempty"`
	Interrupted bool       `json:"interrupted,omitempty"`
	// GoneAt is when the cloud said that nothing of it is left.
	GoneAt *time.Time `json:"gone_at,omitempty"`
	// Problem is what stood in the way of a connection last, while it comes up.
	Problem string `json:"problem,omitempty"`
	// Trouble is what the cloud answers instead of what was asked for last.
	Trouble string `json:"trouble,omitempty"`
}

// Spot says whether the cloud may take the machine back.
func (m *Machine) Spot() bool { return m.Offer.Instance.Resources.Spot }

// Try is an offer of which no machine came.
type Try struct {
	Backend string `json:"backend"`
	Region  string `json:"region"`
	Type    string `json:"type"`
	Spot    bool   `json:"spot"`
	// Why is the cloud's answer, a sentence without a full stop.
	Why string `json:"why"`
	// Token is that of an attempt of which it was not always known whether it
	// acted: a machine that shows up with it later is nobody's.
	Token string `json:"token,omitempty"`
	// Sold says that the cloud had no such machine left.
	Sold bool `json:"sold,omitempty"`
}
