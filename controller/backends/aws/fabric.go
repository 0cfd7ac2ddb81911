package aws

import (
	"context"
	"encoding/json"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

const (
	fabricTTL = 24 * time.Hour
	// elasticData is kept with a machine that AWS gives no public address: it has
	// several interfaces, and we get it one.
	elasticData = `{"elastic_ip":true}`
	tagMachine  = "dstack_machine"
)

// Kinds of network interfaces: EFA with IP, and EFA alone.
const (
	efa     = "efa"
	efaOnly = "efa-only"
)

// fabric is what a machine type has for fast networks; the zero value is one
// plain interface.
type fabric struct {
	machineType string
	efas        int32
}

// fabric asks what a machine type has.
func (a *Account) fabric(ctx context.Context, r *region, machineType string) (fabric, error) {
	return remember(a.known, "fabric/"+r.name+"/"+machineType, fabricTTL, func() (fabric, error) {
		f := fabric{machineType: machineType}
		out, err := r.ec2.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{
			InstanceTypes: []types.InstanceType{types.InstanceType(machineType)},
		})
		if err != nil || len(out.InstanceTypes) == 0 || out.InstanceTypes[0].NetworkInfo == nil {
			return f, err
		}
		if info := out.InstanceTypes[0].NetworkInfo.EfaInfo; info != nil {
			f.efas = awssdk.ToInt32(info.MaximumEfaInterfaces)
		}
		return f, nil
	})
}

// requests are the interfaces of a machine (backends.md 3.1, EFA). AWS gives
// no public address at launch to a machine with several.
func (f fabric) requests(subnet, group string, public bool) []types.InstanceNetworkInterfaceSpecification {
	one := func(card, device int32, kind string) types.InstanceNetworkInterfaceSpecification {
		n := types.InstanceNetworkInterfaceSpecification{
			DeviceIndex: &device, SubnetId: &subnet, Groups: []string{group}, DeleteOnTermination: awssdk.Bool(true),
		}
		if kind != "" {
			n.InterfaceType = &kind
		}
		if card > 0 {
			n.NetworkCardIndex = &card
		}
		return n
	}
	first := ""
	cards, last := int32(1), f.efas-1
	if f.machineType == "p6-b300.48xlarge" {
		last = f.efas // its first card has no EFA
	} else if f.efas > 0 {
		first = efa
	}
	out := []types.InstanceNetworkInterfaceSpecification{one(0, 0, first)}
	for card := cards; card <= last; card++ {
		kind := efaOnly
		if f.machineType == "p5.48xlarge" && card%4 == 0 {
			kind = efa
		}
		out = append(out, one(card, 1, kind))
	}
	if len(out) == 1 {
		out[0].AssociatePublicIpAddress = &public
	}
	return out
}

// elasticAddress gets an address for a machine that runs without one.
func (a *Account) elasticAddress(ctx context.Context, r *region, i types.Instance) (string, error) {
	if !a.publicIPs() || len(i.NetworkInterfaces) < 2 {
		return "", nil
	}
	id := awssdk.ToString(i.InstanceId)
	known, err := r.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: []types.Filter{filter("tag:"+tagMachine, id)}})
	if err != nil {
		return "", err
	}
	var address types.Address
	if len(known.Addresses) > 0 {
		address = known.Addresses[0]
	} else {
		made, err := r.ec2.AllocateAddress(ctx, &ec2.AllocateAddressInput{
			Domain: types.DomainTypeVpc, TagSpecifications: tagged(addressTags(i), types.ResourceTypeElasticIp),
		})
		if err != nil {
			return "", err
		}
		address = types.Address{AllocationId: made.AllocationId, PublicIp: made.PublicIp}
	}
	if address.AssociationId != nil {
		return awssdk.ToString(address.PublicIp), nil
	}
	for _, n := range i.NetworkInterfaces {
		if n.Attachment == nil || awssdk.ToInt32(n.Attachment.DeviceIndex) != 0 || awssdk.ToInt32(n.Attachment.NetworkCardIndex) != 0 {
			continue
		}
		if _, err := r.ec2.AssociateAddress(ctx, &ec2.AssociateAddressInput{
			AllocationId: address.AllocationId, NetworkInterfaceId: n.NetworkInterfaceId,
		}); err != nil {
			return "", err
		}
		return awssdk.ToString(address.PublicIp), nil
	}
	return "", nil
}

// addressTags are those of a machine's address: the machine's, and which one it
// is. The machine's are the user's in part, and must not say that it is another.
func addressTags(i types.Instance) map[string]string {
	tags := map[string]string{}
	for _, t := range i.Tags {
		tags[awssdk.ToString(t.Key)] = awssdk.ToString(t.Value)
	}
	tags[tagMachine] = awssdk.ToString(i.InstanceId)
	return tags
}

// releaseAddress gives back the address that a machine got, also one of
// 0.22.5, which kept its id.
func (a *Account) releaseAddress(ctx context.Context, r *region, machine string, data string) error {
	var kept struct {
		Allocation string `json:"eip_allocation_id"`
		Elastic    bool   `json:"elastic_ip"`
	}
	if err := json.Unmarshal([]byte(data), &kept); err != nil || kept.Allocation == "" && !kept.Elastic {
		return nil //nolint:nilerr // nothing that we wrote: there is no address to give back
	}
	by := filter("tag:"+tagMachine, machine)
	if kept.Allocation != "" {
		by = filter("allocation-id", kept.Allocation)
	}
	found, err := r.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: []types.Filter{by}})
	if err != nil {
		return err
	}
	for _, address := range found.Addresses {
		if address.AssociationId != nil {
			_, err := r.ec2.DisassociateAddress(ctx, &ec2.DisassociateAddressInput{AssociationId: address.AssociationId})
			if err != nil && code(err) != "InvalidAssociationID.NotFound" {
				return err
			}
		}
		_, err := r.ec2.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: address.AllocationId})
		if err != nil && code(err) != "InvalidAllocationID.NotFound" {
			return err
		}
	}
	return nil
}
