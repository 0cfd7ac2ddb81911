package backends

import (
	"context"
	"time"

	"dstack/protocol/api"
)

// Backend is one configured account of a cloud. A driver translates calls and
// nothing more: it keeps no state but caches of what the cloud says, retries
// nothing beyond what the cloud's SDK does, and knows neither the store nor
// the engine. Calls may run at the same time. All errors are [*Error].
//
// What a cloud can do besides is found by type assertion: see [Volumes],
// [PlacementGroups], [Reservations], [Remains].
type Backend interface {
	// Offers lists the machine types of all configured regions with their
	// prices, the cheapest first. Of a region that does not answer it returns
	// an error together with what the others have.
	Offers(ctx context.Context) ([]Offer, error)
	// Create rents one machine. The token makes it idempotent: however often
	// and at the same time a token is sent, at most one machine comes of it,
	// and who comes later gets that one. It returns as soon as the machine has
	// an id, mostly without an address.
	Create(ctx context.Context, spec MachineSpec) (Machine, error)
	// Describe looks at one machine: by its id or, while that is not known,
	// by the token. It fails with [NotFound] when the cloud knows no such
	// machine; a cloud may say so for a while about one that was just made.
	Describe(ctx context.Context, ref Ref) (Machine, error)
	// Delete asks for the end of a machine and of all that Create made with
	// it. It may be repeated, and a machine that is gone is no error. That it
	// succeeded is no proof: only Describe tells when the machine is gone.
	Delete(ctx context.Context, ref Ref) error
	// List finds the machines that carry the tag [TagServer] with this value
	// in all configured regions, those that end included. If a region did not
	// answer, it returns an error together with what the others have: then a
	// machine that is not in the list may exist all the same.
	List(ctx context.Context, server string) ([]Machine, error)
}

// Tags that each machine carries. TagServer alone decides whether a machine is
// ours: it holds an id made with the database, so that two servers in one
// account never touch each other's machines (the others are 0.22.5's: shared
// spec, backends.md 1.7).
const (
	TagServer  = "dstack_server"
	TagOwner   = "owner"
	TagProject = "dstack_project"
	TagName    = "dstack_name"
	TagUser    = "dstack_user"
)

// Offer is a machine type in a region.
type Offer struct {
	api.Offer
	// Family is what the cloud's limits count it as; Error.Family of a [Quota]
	// error names the same.
	Family string
	// DiskMin and DiskMax are the sizes in GB that its disk may have; both
	// are 0 if the type has a disk of its own.
	DiskMin, DiskMax int
	// DiskPrice is in USD for one GB and hour, AddressPrice in USD for a public
	// address and hour; Price of the embedded offer has neither.
	DiskPrice, AddressPrice float64
	// PricedAt is the date of the price; PriceSource is where it is from.
	PricedAt    time.Time
	PriceSource string
	// Why says, in a sentence, why there is no use in asking for it now; empty
	// where Availability says it all.
	Why string
	// RefusedAt is when one of it was refused last, whatever was given since; zero
	// if that was not lately.
	RefusedAt time.Time
}

// MachineSpec is a machine that is wanted.
type MachineSpec struct {
	// Token names the wish. It was stored before the call.
	Token string
	// Name is for people who look at the cloud's console.
	Name   string
	Region string
	// Zones are tried in this order; none means every zone of the region.
	Zones []string
	// Type is the cloud's name of the machine type, Resources what it has:
	// image and root disk follow from them.
	Type      string
	Resources api.Resources
	Spot      bool
	DiskGB    int
	// UserData is what cloud-init on the machine gets.
	UserData string
	Tags     map[string]string
	// PlacementGroup and Reservation are the cloud's names, or empty.
	PlacementGroup string
	Reservation    string
}

// Ref finds a machine again.
type Ref struct {
	// ID is the cloud's, empty while no answer to Create came.
	ID     string
	Token  string
	Region string
	// Data is what the driver needs besides, as it stood in Machine.Data. Who
	// only looks leaves it out: then Describe gets the machine nothing that it
	// lacks.
	Data string
}

// MachineState is where a machine stands in its cloud.
type MachineState string

// States of a machine.
const (
	MachinePending  MachineState = "pending"
	MachineRunning  MachineState = "running"
	MachineStopping MachineState = "stopping"
	// MachineGone costs nothing any more.
	MachineGone MachineState = "gone"
)

// Machine is a machine as its cloud describes it.
type Machine struct {
	Ref
	State MachineState
	// Reason is the cloud's own, for a machine that ends or ended by itself.
	Reason string
	Name   string
	Type   string
	Zone   string
	Spot   bool
	// Interrupted says that the cloud takes or took a spot machine back.
	Interrupted bool
	// Address is where the server reaches SSH, Internal where other machines of
	// the network reach it; both are empty until they are known.
	Address, Internal string
	SSHPort           int
	User              string
	CreatedAt         time.Time
	Tags              map[string]string
}

// VolumeRef finds a volume again.
type VolumeRef struct {
	ID, Token, Region, Data string
}

// VolumeSpec is a volume that is wanted.
type VolumeSpec struct {
	Token  string
	Name   string
	Region string
	// Zone is one of the region, or empty for any.
	Zone   string
	SizeGB int
	Tags   map[string]string
}

// Volume is a network volume as its cloud describes it.
type Volume struct {
	VolumeRef
	Name      string
	SizeGB    int
	Zone      string
	CreatedAt time.Time
	// Price is in USD a month.
	Price float64
	// Attached are the ids of the machines that it is attached to, those from
	// which it is being detached included.
	Attached []string
}

// Address is a public address that was got for a machine.
type Address struct {
	ID, Region, IP string
	// Machine is the id of the machine.
	Machine string
	// Price is in USD an hour.
	Price float64
}

// Remains is the power to find what outlived its machine.
type Remains interface {
	// ListVolumes finds the volumes that CreateVolume made with the tag
	// [TagServer] of this value, as List finds machines.
	ListVolumes(ctx context.Context, server string) ([]Volume, error)
	// LooseAddresses lists the addresses that carry the tag, that nothing uses,
	// and whose machine is gone, as List finds machines.
	LooseAddresses(ctx context.Context, server string) ([]Address, error)
	// ReleaseAddress may be repeated; one that is gone is no error.
	ReleaseAddress(ctx context.Context, ref Address) error
}

// Volumes is the power to keep disks that outlive machines.
type Volumes interface {
	// CreateVolume is idempotent by its token, as Create.
	CreateVolume(ctx context.Context, spec VolumeSpec) (Volume, error)
	// DescribeVolume fails with [NotFound] if there is no such volume.
	DescribeVolume(ctx context.Context, ref VolumeRef) (Volume, error)
	// DeleteVolume may be repeated; a volume that is gone is no error.
	DeleteVolume(ctx context.Context, ref VolumeRef) error
	// AttachVolume returns the name under which the machine sees the device;
	// one that is attached there already is no error.
	AttachVolume(ctx context.Context, ref VolumeRef, machine Ref) (device string, err error)
	// DetachVolume asks for it; force does not wait for the machine.
	// DescribeVolume tells when it is done.
	DetachVolume(ctx context.Context, ref VolumeRef, machine Ref, force bool) error
}

// PlacementGroups is the power to put machines close together.
type PlacementGroups interface {
	// CreatePlacementGroup may be repeated. It fails with [Unsupported] if the
	// machine type cannot be in one.
	CreatePlacementGroup(ctx context.Context, name, region, machineType string, tags map[string]string) error
	// DeletePlacementGroup fails with [NotReady] while machines are in it; one
	// that is gone is no error.
	DeletePlacementGroup(ctx context.Context, name, region string) error
}

// Reservation is capacity that is paid for already.
type Reservation struct {
	ID     string
	Region string
	Zone   string
	Type   string
	// Free is how many machines it has room for.
	Free int
	// Block says that it is a capacity block, which takes no placement group.
	Block bool
}

// Reservations is the power to use capacity that was reserved.
type Reservations interface {
	// FindReservation fails with [NotFound] if no configured region has it.
	FindReservation(ctx context.Context, id string) (Reservation, error)
}
