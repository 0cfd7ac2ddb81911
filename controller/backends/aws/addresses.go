package aws

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"dstack/controller/backends"
)

const (
	// elasticData is kept with a machine that AWS gives no public address: it has
	// several interfaces, and we get it one.
	elasticData = `{"elastic_ip":true}`
	tagMachine  = "dstack_machine"
)

// kept is what Data of a machine says of its address.
type kept struct {
	// Allocation is that of 0.22.5, which kept its id.
	Allocation string `json:"eip_allocation_id"`
	Elastic    bool   `json:"elastic_ip"`
}

func readKept(data string) (k kept) {
	if json.Unmarshal([]byte(data), &k) != nil {
		return kept{} // nothing that we wrote: there is no address
	}
	return k
}

// elasticAddress gets an address for a machine that runs without one. Only who
// keeps the machine's Data gets it one: that is the one who will give it back.
func (a *Account) elasticAddress(ctx context.Context, r *region, i types.Instance, data string) (string, error) {
	if !a.publicIPs() || len(i.NetworkInterfaces) < 2 || !readKept(data).Elastic {
		return "", nil
	}
	mine, err := addressesOf(ctx, r, i)
	if err == nil && len(mine) == 0 {
		_, err = r.ec2.AllocateAddress(ctx, &ec2.AllocateAddressInput{
			Domain: types.DomainTypeVpc, TagSpecifications: tagged(addressTags(i), types.ResourceTypeElasticIp),
		})
		if err == nil {
			mine, err = addressesOf(ctx, r, i) // EC2 knows no token here: an answer that was lost may have made another
		}
	}
	if err != nil || len(mine) == 0 { // it is not shown yet
		return "", err
	}
	if err := release(ctx, r, mine[1:]); err != nil {
		return "", err
	}
	address := mine[0]
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

// addressesOf are those that a machine got, the one in use first.
func addressesOf(ctx context.Context, r *region, i types.Instance) ([]types.Address, error) {
	found, err := r.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{
		Filters: []types.Filter{filter("tag:"+tagMachine, awssdk.ToString(i.InstanceId))},
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found.Addresses, func(x, y types.Address) int {
		return cmp.Or(
			cmp.Compare(awssdk.ToString(y.AssociationId), awssdk.ToString(x.AssociationId)),
			cmp.Compare(awssdk.ToString(x.AllocationId), awssdk.ToString(y.AllocationId)),
		)
	})
	return found.Addresses, nil
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
// 0.22.5.
func (a *Account) releaseAddress(ctx context.Context, r *region, machine string, data string) error {
	k := readKept(data)
	if k == (kept{}) {
		return nil
	}
	by := filter("tag:"+tagMachine, machine)
	if k.Allocation != "" {
		by = filter("allocation-id", k.Allocation)
	}
	found, err := r.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: []types.Filter{by}})
	if err != nil {
		return err
	}
	return release(ctx, r, found.Addresses)
}

func release(ctx context.Context, r *region, list []types.Address) error {
	for _, address := range list {
		if address.AssociationId != nil {
			_, err := r.ec2.DisassociateAddress(ctx, &ec2.DisassociateAddressInput{AssociationId: address.AssociationId})
			if err != nil && kindOf(err) != backends.NotFound {
				return err
			}
		}
		_, err := r.ec2.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: address.AllocationId})
		if err != nil && kindOf(err) != backends.NotFound {
			return err
		}
	}
	return nil
}

// LooseAddresses is that of [backends.Remains].
func (a *Account) LooseAddresses(ctx context.Context, server string) ([]backends.Address, error) {
	return everywhere(ctx, a, "list addresses", func(ctx context.Context, r *region) ([]backends.Address, error) {
		found, err := r.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{
			Filters: []types.Filter{filter("tag:"+backends.TagServer, server), filter("tag-key", tagMachine)},
		})
		if kindOf(err) == backends.Permission {
			return nil, nil // who may not see addresses got none: see elasticAddress
		}
		if err != nil || len(found.Addresses) == 0 {
			return nil, err
		}
		var machines []string
		for _, x := range found.Addresses {
			machines = append(machines, tagOf(x.Tags, tagMachine))
		}
		left, err := instances(ctx, r, &ec2.DescribeInstancesInput{Filters: []types.Filter{filter("instance-id", machines...)}})
		if err != nil {
			return nil, err
		}
		var out []backends.Address
		for n, x := range found.Addresses {
			alive := slices.ContainsFunc(left, func(i types.Instance) bool {
				return awssdk.ToString(i.InstanceId) == machines[n] && stateOf(i) != backends.MachineGone
			})
			if x.AssociationId == nil && !alive {
				out = append(out, backends.Address{
					ID: awssdk.ToString(x.AllocationId), Region: r.name, IP: awssdk.ToString(x.PublicIp), Machine: machines[n], Price: addressPrice,
				})
			}
		}
		return out, nil
	})
}

// ReleaseAddress is that of [backends.Remains]. EC2 itself refuses one that
// is in use.
func (a *Account) ReleaseAddress(ctx context.Context, ref backends.Address) error {
	r, err := a.region(ref.Region)
	if err == nil {
		err = release(ctx, r, []types.Address{{AllocationId: &ref.ID}})
	}
	return a.failed(ctx, "release address", ref.Region, err)
}

func tagOf(tags []types.Tag, key string) string {
	for _, t := range tags {
		if awssdk.ToString(t.Key) == key {
			return awssdk.ToString(t.Value)
		}
	}
	return ""
}
