package reason

// Rejection is why a fleet or an instance is no place for a job.
type Rejection string

// Rejections of fleets.
const (
	FleetDeleting  Rejection = "fleet_deleting"
	FleetOther     Rejection = "fleet_other"
	FleetNotAsked  Rejection = "fleet_not_asked"
	FleetNoCluster Rejection = "fleet_no_cluster"
	FleetEmpty     Rejection = "fleet_empty"
	FleetNotReady  Rejection = "fleet_not_ready"
	FleetBusy      Rejection = "fleet_busy"
	FleetFull      Rejection = "fleet_full"
	NoMachine      Rejection = "no_machine"
	OnlyReuse      Rejection = "only_reuse"
)

// Rejections of instances.
const (
	InstanceForbidden   Rejection = "instance_forbidden"
	InstanceNotReady    Rejection = "instance_not_ready"
	InstanceLeaving     Rejection = "instance_leaving"
	InstanceUnreachable Rejection = "instance_unreachable"
	InstanceUnhealthy   Rejection = "instance_unhealthy"
	InstanceProblem     Rejection = "instance_problem"
	InstanceUnknown     Rejection = "instance_unknown"
	InstanceNotAsked    Rejection = "instance_not_asked"
	InstanceBusy        Rejection = "instance_busy"
	InstanceNoAddress   Rejection = "instance_no_address"
	BackendNotAsked     Rejection = "backend_not_asked"
	RegionNotAsked      Rejection = "region_not_asked"
	TypeNotAsked        Rejection = "type_not_asked"
	PriceTooHigh        Rejection = "price_too_high"
	VolumeElsewhere     Rejection = "volume_elsewhere"
	VolumeBusy          Rejection = "volume_busy"
	VolumeUnusable      Rejection = "volume_unusable"
	CPUArch             Rejection = "cpu_arch"
	CPUCount            Rejection = "cpu_count"
	Memory              Rejection = "memory"
	Disk                Rejection = "disk"
	Spot                Rejection = "spot"
	GPUNone             Rejection = "gpu_none"
	GPUVendor           Rejection = "gpu_vendor"
	GPUCount            Rejection = "gpu_count"
	GPUName             Rejection = "gpu_name"
	GPUMemory           Rejection = "gpu_memory"
	GPUTotalMemory      Rejection = "gpu_total_memory"
	GPUCapability       Rejection = "gpu_capability"
	Blocks              Rejection = "blocks"
	Reservation         Rejection = "reservation"
	NotAvailable        Rejection = "not_available"
	NoQuota             Rejection = "no_quota"
	CloudRefused        Rejection = "cloud_refused"
	BackendSilent       Rejection = "backend_silent"
)

// Place explains why something is no place for a job.
func Place(r Rejection) (Sentence, bool) {
	s, ok := places()[r]
	return s, ok
}

func places() map[Rejection]Sentence {
	const less = "Ask for less in `resources`, or add a host that has it."
	const gpu = "Change `resources.gpu`, or add a host that has it."
	return map[Rejection]Sentence{
		FleetDeleting:       {"the fleet is being deleted", "Use another fleet."},
		FleetOther:          {"the run belongs to another fleet", "Stop the run and apply it again to let it move."},
		FleetNotAsked:       {"the run asks for other fleets", "Add it to `fleets`, or remove `fleets`."},
		FleetNoCluster:      {"a run of several nodes needs a fleet with `placement: cluster`", "Apply the fleet with `placement: cluster`, or use one node."},
		FleetEmpty:          {"the fleet has no instances", "Add hosts to the fleet."},
		FleetNotReady:       {"none of its hosts is ready", "Look at them with `dstack fleet -v`."},
		FleetBusy:           {"its hosts are busy", "Wait, set `retry` with the event `no-capacity`, or add hosts."},
		FleetFull:           {"the fleet may have no more machines", "Wait, or raise `nodes.max` of the fleet."},
		NoMachine:           {"no backend offers a machine for it", "Add a backend or a host that has what the run asks for."},
		OnlyReuse:           {"the run may use only instances that exist", "Remove `creation_policy: reuse` to let it have a new machine."},
		InstanceForbidden:   {"only administrators may use the server's own machine", "Start the server with --local-shared to allow everybody."},
		InstanceNotReady:    {"it is not ready yet", "Look at it with `dstack fleet -v`."},
		InstanceLeaving:     {"it is being removed", "Use another instance."},
		InstanceUnreachable: {"it does not answer", "Check the host and the network with `dstack fleet -v`."},
		InstanceUnhealthy:   {"its health check failed", "Look at the accelerators of the host."},
		InstanceProblem:     {"something on it has to be put right", "Follow the message."},
		InstanceUnknown:     {"its resources are not known yet", "Wait until it is ready."},
		InstanceNotAsked:    {"the run asks for other instances", "Add it to `instances`, or remove `instances`."},
		InstanceBusy:        {"it fits but is busy", "Wait, or set `retry` with the event `no-capacity`."},
		InstanceNoAddress:   {"other nodes of the run could not reach it", "Say which network the hosts share: `network`, or `internal_ip` of each host, in `ssh_config` of the fleet."},
		BackendNotAsked:     {"the run asks for other backends", "Change `backends`."},
		RegionNotAsked:      {"the run asks for other regions", "Change `regions`."},
		TypeNotAsked:        {"the run asks for other instance types", "Change `instance_types`."},
		PriceTooHigh:        {"it costs more than the run may", "Raise `max_price`."},
		VolumeElsewhere:     {"a volume of the run cannot be attached to it", "Use an instance volume, or a machine where the volume is."},
		VolumeBusy:          {"a volume of the run is used by another job", "Wait: the run starts when the volume is free."},
		VolumeUnusable:      {"a volume of the run cannot be used", "Look at it with `dstack volume list -v`."},
		CPUArch:             {"it has another kind of CPU", "Change `resources.cpu`, or use an image for its CPU."},
		CPUCount:            {"it has another number of CPUs", less},
		Memory:              {"it has another amount of memory", less},
		Disk:                {"its disk has another size", "Runs ask for 100GB if `resources.disk` says nothing else: set less there."},
		Spot:                {"it is of another kind: spot or on-demand", "Set `spot_policy: auto` to use both."},
		GPUNone:             {"it has no GPU", gpu},
		GPUVendor:           {"its GPUs are of another vendor", gpu},
		GPUCount:            {"it has another number of GPUs", gpu},
		GPUName:             {"its GPUs are others", gpu},
		GPUMemory:           {"its GPUs have another amount of memory", gpu},
		GPUTotalMemory:      {"its GPUs together have another amount of memory", gpu},
		GPUCapability:       {"its GPUs are of an older generation", gpu},
		Reservation:         {"it is not in the reservation that is asked for", "Change `reservation`, or what the run asks for."},
		NotAvailable:        {"its cloud had none when it was asked last", "Wait, set `retry` with the event `no-capacity`, or allow more `regions` and `instance_types`."},
		NoQuota:             {"a limit of the account does not allow it", "Ask the cloud to raise the limit, or use other regions or machine types."},
		CloudRefused:        {"its cloud refused it when it was asked last", "Do what the cloud says; it is asked again after some minutes."},
		BackendSilent:       {"what its backend offers is not known", "Wait a moment; if it stays so, check the backend's configuration."},
		Blocks:              {"it does not divide into the fleet's blocks", "Change `blocks` of the fleet."},
	}
}
