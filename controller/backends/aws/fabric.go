package aws

import (
	"context"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

const fabricTTL = 24 * time.Hour

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
