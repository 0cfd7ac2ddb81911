package aws

import (
	"context"
	"encoding/base64"
	"errors"
	"maps"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"dstack/controller/backends"
)

const (
	// tagConsoleName is what the console shows.
	tagConsoleName = "Name"
	// tagToken finds a volume or an address again: their lists know no tokens.
	tagToken = "dstack_token"
)

// Create is that of [backends.Backend].
func (a *Account) Create(ctx context.Context, spec backends.MachineSpec) (backends.Machine, error) {
	m, err := a.create(ctx, spec)
	if err == nil {
		return m, nil
	}
	err = a.failed(ctx, "create", spec.Region, err)
	var known *backends.Error
	if errors.As(err, &known) {
		switch known.Kind {
		case backends.Config, backends.NotReady:
			a.known.forget() // a subnet, a group or an image that was known is gone
		case backends.Quota:
			known.Family = familyOf(spec.Type, spec.Spot).name
		}
	}
	return m, err
}

func (a *Account) create(ctx context.Context, spec backends.MachineSpec) (backends.Machine, error) {
	r, err := a.region(spec.Region)
	if err != nil {
		return backends.Machine{}, err
	}
	p, err := a.prepare(ctx, r, spec)
	if err != nil {
		return backends.Machine{}, err
	}
	return a.tryZones(ctx, r, spec, p)
}

// plan is all of a machine but its zone.
type plan struct {
	image       image
	group       string
	places      []subnet
	interfaces  fabric
	reservation *types.CapacityReservation
	tags        map[string]string
	profile     *string
	public      bool
}

func (a *Account) prepare(ctx context.Context, r *region, spec backends.MachineSpec) (plan, error) {
	p := plan{tags: a.tags(spec.Tags, spec.Name), profile: a.cfg.IAMInstanceProfile, public: a.publicIPs()}
	net, err := a.network(ctx, r)
	if err != nil {
		return p, err
	}
	zones := spec.Zones
	if spec.Reservation != "" {
		p.reservation, err = reservation(ctx, r, spec.Reservation)
		if err != nil {
			return p, err
		}
		zones = []string{awssdk.ToString(p.reservation.AvailabilityZone)}
	}
	p.places, err = net.places(zones, p.public)
	if err != nil {
		return p, err
	}
	if p.image, err = a.image(ctx, r, spec.Resources); err != nil {
		return p, err
	}
	if p.group, err = a.securityGroup(ctx, r, net.vpc, spec.Tags[backends.TagProject]); err != nil {
		return p, err
	}
	if spec.PlacementGroup != "" || spec.Reservation != "" {
		p.interfaces, err = a.fabric(ctx, r, spec.Type)
	}
	return p, err
}

// tryZones asks for the machine in one zone after the other, always with the
// same token: whatever became of an answer that was lost, and whichever zone
// has room again meanwhile, EC2 itself refuses a second machine.
func (a *Account) tryZones(ctx context.Context, r *region, spec backends.MachineSpec, p plan) (backends.Machine, error) {
	// What was made already may be in a zone that is not the first.
	found, err := a.find(ctx, r, backends.Ref{Token: spec.Token, Region: r.name})
	switch {
	case err == nil:
		return a.machine(r, *found), nil
	case kindOf(err) != backends.NotFound:
		return backends.Machine{}, err
	}
	var refused error
	for n, place := range p.places {
		m, err := a.run(ctx, r, request(spec, p, place))
		switch {
		case err == nil:
			return m, nil
		case code(err) == "IdempotentParameterMismatch" && refused == nil:
			// It is not shown yet. Nothing else may be made of this token.
			return backends.Machine{}, refuse(backends.Transient, "the machine was made already and is not shown yet")
		case code(err) == "IdempotentParameterMismatch":
			spent := a.failed(ctx, "create", r.name, refused)
			if known, ok := errors.AsType[*backends.Error](spent); ok && known.Kind == backends.NoCapacity {
				known.Zones = zonesOf(p.places[n:])
			}
			return backends.Machine{}, spent
		case !elsewhere(err):
			return backends.Machine{}, err
		}
		refused = err
	}
	return backends.Machine{}, refused
}

func zonesOf(places []subnet) []string {
	out := make([]string, 0, len(places))
	for _, p := range places {
		out = append(out, p.zone)
	}
	return out
}

func (a *Account) run(ctx context.Context, r *region, in *ec2.RunInstancesInput) (backends.Machine, error) {
	out, err := r.ec2.RunInstances(ctx, in)
	if err != nil {
		return backends.Machine{}, err
	}
	if len(out.Instances) == 0 {
		return backends.Machine{}, refuse(backends.Transient, "AWS started no machine and gave no reason")
	}
	return a.machine(r, out.Instances[0]), nil
}

// elsewhere says that another zone may have what this one has not.
func elsewhere(err error) bool {
	switch kindOf(err) {
	case backends.NoCapacity, backends.Unsupported:
		return true
	}
	return false
}

// request is what AWS is asked for. Nothing in it depends on anything but the
// arguments: the same token must come with the same request.
func request(spec backends.MachineSpec, p plan, place subnet) *ec2.RunInstancesInput {
	in := &ec2.RunInstancesInput{
		ClientToken:                       &spec.Token,
		ImageId:                           &p.image.id,
		InstanceType:                      types.InstanceType(spec.Type),
		MinCount:                          awssdk.Int32(1),
		MaxCount:                          awssdk.Int32(1),
		InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorTerminate,
		// Only what runs on the machine itself may read its metadata: a container
		// is one hop further.
		MetadataOptions: &types.InstanceMetadataOptionsRequest{
			HttpTokens: types.HttpTokensStateRequired, HttpPutResponseHopLimit: awssdk.Int32(1),
			HttpEndpoint: types.InstanceMetadataEndpointStateEnabled,
		},
		NetworkInterfaces:   p.interfaces.requests(place.id, p.group, p.public),
		BlockDeviceMappings: []types.BlockDeviceMapping{rootDisk(p.image, spec.DiskGB)},
		TagSpecifications:   tagged(p.tags, types.ResourceTypeInstance, types.ResourceTypeVolume),
	}
	if spec.UserData != "" {
		in.UserData = awssdk.String(base64.StdEncoding.EncodeToString([]byte(spec.UserData)))
	}
	if p.profile != nil {
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: p.profile}
	}
	if spec.Spot {
		in.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{
			MarketType: types.MarketTypeSpot,
			SpotOptions: &types.SpotMarketOptions{
				SpotInstanceType:             types.SpotInstanceTypeOneTime,
				InstanceInterruptionBehavior: types.InstanceInterruptionBehaviorTerminate,
			},
		}
	}
	in.Placement = placement(spec, p)
	if p.reservation != nil {
		in.CapacityReservationSpecification = &types.CapacityReservationSpecification{
			CapacityReservationTarget: &types.CapacityReservationTarget{CapacityReservationId: p.reservation.CapacityReservationId},
		}
		if p.reservation.ReservationType == types.CapacityReservationTypeCapacityBlock {
			in.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{MarketType: types.MarketTypeCapacityBlock}
		}
	}
	return in
}

func placement(spec backends.MachineSpec, p plan) *types.Placement {
	var out types.Placement
	if spec.PlacementGroup != "" {
		out.GroupName = &spec.PlacementGroup
	}
	if r := p.reservation; r != nil && r.Tenancy != "" && r.Tenancy != types.CapacityReservationTenancyDefault {
		out.Tenancy = types.Tenancy(r.Tenancy)
	}
	if out == (types.Placement{}) {
		return nil
	}
	return &out
}

func rootDisk(i image, sizeGB int) types.BlockDeviceMapping {
	disk := &types.EbsBlockDevice{VolumeType: types.VolumeTypeGp3, DeleteOnTermination: awssdk.Bool(true)}
	if size := max(int32(sizeGB), i.sizeGB); size > 0 {
		disk.VolumeSize = &size
	}
	return types.BlockDeviceMapping{DeviceName: &i.device, Ebs: disk}
}

// tags are those of a resource: ours, then the backend's, then the resource's.
func (a *Account) tags(resource map[string]string, name string) map[string]string {
	out := maps.Clone(resource)
	if out == nil {
		out = map[string]string{}
	}
	for k, v := range a.cfg.Tags {
		switch k {
		case backends.TagServer, backends.TagOwner, backends.TagProject, backends.TagName, backends.TagUser:
		default:
			out[k] = v
		}
	}
	if name != "" {
		out[tagConsoleName] = name
	}
	return out
}

func tagged(tags map[string]string, kinds ...types.ResourceType) []types.TagSpecification {
	if len(tags) == 0 {
		return nil
	}
	var list []types.Tag
	for _, k := range sortedKeys(tags) {
		list = append(list, types.Tag{Key: awssdk.String(k), Value: awssdk.String(tags[k])})
	}
	var out []types.TagSpecification
	for _, kind := range kinds {
		out = append(out, types.TagSpecification{ResourceType: kind, Tags: list})
	}
	return out
}
