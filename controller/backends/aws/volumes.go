package aws

import (
	"context"
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"dstack/controller/backends"
)

// Prices of gp3 in USD a month: for a GB, and for what goes beyond the
// operations that are included.
const (
	gp3GB       = 0.08
	gp3Included = 3000
	gp3Op       = 0.005
)

// CreateVolume is that of [backends.Volumes].
func (a *Account) CreateVolume(ctx context.Context, spec backends.VolumeSpec) (backends.Volume, error) {
	v, err := a.createVolume(ctx, spec)
	return v, a.failed(ctx, "create volume", spec.Region, err)
}

func (a *Account) createVolume(ctx context.Context, spec backends.VolumeSpec) (backends.Volume, error) {
	r, err := a.region(spec.Region)
	if err != nil {
		return backends.Volume{}, err
	}
	zone := spec.Zone
	if zone == "" {
		net, err := a.network(ctx, r)
		if err != nil {
			return backends.Volume{}, err
		}
		places, err := net.places(nil, a.publicIPs())
		if err != nil {
			return backends.Volume{}, err
		}
		zone = places[0].zone
	}
	tags := a.tags(spec.Tags, spec.Name)
	tags[tagToken] = spec.Token
	out, err := r.ec2.CreateVolume(ctx, &ec2.CreateVolumeInput{
		ClientToken: &spec.Token, AvailabilityZone: &zone, VolumeType: types.VolumeTypeGp3,
		Size: awssdk.Int32(int32(spec.SizeGB)), TagSpecifications: tagged(tags, types.ResourceTypeVolume),
	})
	if err != nil {
		return backends.Volume{}, err
	}
	return volume(r, types.Volume{
		VolumeId: out.VolumeId, Size: out.Size, AvailabilityZone: out.AvailabilityZone, Iops: out.Iops, VolumeType: out.VolumeType, Tags: out.Tags,
		CreateTime: out.CreateTime,
	}), nil
}

func volume(r *region, v types.Volume) backends.Volume {
	out := backends.Volume{
		VolumeRef: backends.VolumeRef{ID: awssdk.ToString(v.VolumeId), Region: r.name},
		SizeGB:    int(awssdk.ToInt32(v.Size)),
		Zone:      awssdk.ToString(v.AvailabilityZone),
	}
	out.Price = float64(out.SizeGB)*gp3GB + float64(max(0, awssdk.ToInt32(v.Iops)-gp3Included))*gp3Op
	out.Token, out.Name = tagOf(v.Tags, tagToken), tagOf(v.Tags, tagConsoleName)
	if v.CreateTime != nil {
		out.CreatedAt = *v.CreateTime
	}
	for _, at := range v.Attachments {
		if at.State != types.VolumeAttachmentStateDetached {
			out.Attached = append(out.Attached, awssdk.ToString(at.InstanceId))
		}
	}
	return out
}

// findVolume is the volume of a reference, with its region.
func (a *Account) findVolume(ctx context.Context, ref backends.VolumeRef) (*region, *types.Volume, error) {
	r, err := a.region(ref.Region)
	if err != nil {
		return nil, nil, err
	}
	in := &ec2.DescribeVolumesInput{}
	if ref.ID != "" {
		in.VolumeIds = []string{ref.ID}
	} else {
		in.Filters = []types.Filter{filter("tag:"+tagToken, ref.Token)}
	}
	out, err := r.ec2.DescribeVolumes(ctx, in)
	if err != nil {
		return r, nil, err
	}
	for i, v := range out.Volumes {
		if v.State != types.VolumeStateDeleting && v.State != types.VolumeStateDeleted {
			return r, &out.Volumes[i], nil
		}
	}
	return r, nil, refuse(backends.NotFound, "volume %s does not exist", ref.ID+ref.Token)
}

// DescribeVolume is that of [backends.Volumes].
func (a *Account) DescribeVolume(ctx context.Context, ref backends.VolumeRef) (backends.Volume, error) {
	r, v, err := a.findVolume(ctx, ref)
	if err != nil {
		return backends.Volume{}, a.failed(ctx, "describe volume", ref.Region, err)
	}
	return volume(r, *v), nil
}

// ListVolumes is that of [backends.Remains]. The disks of machines carry the
// tag, too, but no token.
func (a *Account) ListVolumes(ctx context.Context, server string) ([]backends.Volume, error) {
	return everywhere(ctx, a, "list volumes", func(ctx context.Context, r *region) ([]backends.Volume, error) {
		var out []backends.Volume
		pages := ec2.NewDescribeVolumesPaginator(r.ec2, &ec2.DescribeVolumesInput{
			Filters: []types.Filter{filter("tag:"+backends.TagServer, server), filter("tag-key", tagToken)}, MaxResults: &a.page,
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return out, err
			}
			for _, v := range page.Volumes {
				if v.State != types.VolumeStateDeleting && v.State != types.VolumeStateDeleted {
					out = append(out, volume(r, v))
				}
			}
		}
		return out, nil
	})
}

// DeleteVolume is that of [backends.Volumes]. One whose id is known is not
// looked for first: EC2 may not show it yet.
func (a *Account) DeleteVolume(ctx context.Context, ref backends.VolumeRef) error {
	r, err := a.region(ref.Region)
	id := &ref.ID
	if err == nil && ref.ID == "" {
		var v *types.Volume
		if _, v, err = a.findVolume(ctx, ref); err == nil {
			id = v.VolumeId
		}
	}
	if err == nil {
		_, err = r.ec2.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: id})
	}
	if kindOf(err) == backends.NotFound {
		return nil
	}
	return a.failed(ctx, "delete volume", ref.Region, err)
}

// AttachVolume is that of [backends.Volumes]. On machines of the Nitro system
// the device has another name; its serial number is the id of the volume.
func (a *Account) AttachVolume(ctx context.Context, ref backends.VolumeRef, machine backends.Ref) (string, error) {
	device, err := a.attach(ctx, ref, machine)
	return device, a.failed(ctx, "attach volume", ref.Region, err)
}

func (a *Account) attach(ctx context.Context, ref backends.VolumeRef, machine backends.Ref) (string, error) {
	r, v, err := a.findVolume(ctx, ref)
	if err != nil {
		return "", err
	}
	for _, at := range v.Attachments {
		switch at.State {
		case types.VolumeAttachmentStateDetached:
		case types.VolumeAttachmentStateAttached, types.VolumeAttachmentStateAttaching:
			if awssdk.ToString(at.InstanceId) == machine.ID {
				return awssdk.ToString(at.Device), nil
			}
			return "", refuse(backends.NotReady, "Failed to attach volume in use: %s", ref.ID)
		default:
			return "", refuse(backends.NotReady, "volume %s is being detached from %s", ref.ID, awssdk.ToString(at.InstanceId))
		}
	}
	host, err := a.find(ctx, r, machine)
	if err != nil {
		return "", err
	}
	device, err := freeDevice(host.BlockDeviceMappings)
	if err != nil {
		return "", err
	}
	_, err = r.ec2.AttachVolume(ctx, &ec2.AttachVolumeInput{VolumeId: v.VolumeId, InstanceId: host.InstanceId, Device: &device})
	if err != nil {
		return "", err
	}
	return device, nil
}

// freeDevice is the first name that AWS recommends for volumes and the machine
// does not use.
func freeDevice(used []types.InstanceBlockDeviceMapping) (string, error) {
	for letter := 'f'; letter <= 'p'; letter++ {
		name := "/dev/sd" + string(letter)
		if !slices.ContainsFunc(used, func(d types.InstanceBlockDeviceMapping) bool { return awssdk.ToString(d.DeviceName) == name }) {
			return name, nil
		}
	}
	return "", refuse(backends.BadRequest, "the machine has no room for another volume")
}

// DetachVolume is that of [backends.Volumes].
func (a *Account) DetachVolume(ctx context.Context, ref backends.VolumeRef, machine backends.Ref, force bool) error {
	r, v, err := a.findVolume(ctx, ref)
	if err == nil {
		attached := slices.ContainsFunc(v.Attachments, func(at types.VolumeAttachment) bool {
			return awssdk.ToString(at.InstanceId) == machine.ID && at.State != types.VolumeAttachmentStateDetached
		})
		if !attached {
			return nil
		}
		_, err = r.ec2.DetachVolume(ctx, &ec2.DetachVolumeInput{VolumeId: v.VolumeId, InstanceId: &machine.ID, Force: &force})
	}
	// IncorrectState: it is detached by now.
	if kindOf(err) == backends.NotFound || code(err) == "IncorrectState" {
		return nil
	}
	return a.failed(ctx, "detach volume", ref.Region, err)
}
