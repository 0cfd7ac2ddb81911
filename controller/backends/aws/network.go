package aws

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"dstack/controller/backends"
)

// networkTTL is how long a network is known.
const networkTTL = 10 * time.Minute

// network is the VPC of a region with its subnets.
type network struct {
	vpc     string
	subnets []subnet
}

type subnet struct {
	id, zone string
	free     int32
	// public subnets reach the internet by a gateway of their own, private ones
	// by somebody else's: NAT, a transit gateway or a peering.
	public, private bool
}

// network finds where machines of a region go.
func (a *Account) network(ctx context.Context, r *region) (network, error) {
	return remember(a.known, "network/"+r.name, networkTTL, func() (network, error) {
		vpc, err := a.vpc(ctx, r)
		if err != nil {
			return network{}, err
		}
		of := []types.Filter{filter("vpc-id", vpc)}
		subnets, err := r.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: of})
		if err != nil {
			return network{}, err
		}
		tables, err := r.ec2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: of})
		if err != nil {
			return network{}, err
		}
		n := network{vpc: vpc}
		for _, s := range subnets.Subnets {
			id := awssdk.ToString(s.SubnetId)
			public, private := ways(tables.RouteTables, id)
			n.subnets = append(n.subnets, subnet{
				id: id, zone: awssdk.ToString(s.AvailabilityZone), free: awssdk.ToInt32(s.AvailableIpAddressCount), public: public, private: private,
			})
		}
		return n, nil
	})
}

// vpc is that of vpc_ids, else that of vpc_name, else the default one.
func (a *Account) vpc(ctx context.Context, r *region) (string, error) {
	var (
		in    ec2.DescribeVpcsInput
		field []string
		what  string
	)
	switch id := a.cfg.VPCIDs[r.name]; {
	case id != "":
		in.VpcIds, field, what = []string{id}, []string{"vpc_ids", r.name}, "VPC "+id
	case a.cfg.VPCName != nil:
		in.Filters, field, what = []types.Filter{filter("tag:Name", *a.cfg.VPCName)}, []string{"vpc_name"}, "VPC named "+*a.cfg.VPCName
	case a.cfg.DefaultVPCs != nil && !*a.cfg.DefaultVPCs:
		return "", wrong([]string{"vpc_ids"}, "no VPC is set for region %s, and default_vpcs is false", r.name)
	default:
		in.Filters, field, what = []types.Filter{filter("isDefault", "true")}, []string{"default_vpcs"}, "default VPC"
	}
	out, err := r.ec2.DescribeVpcs(ctx, &in)
	switch {
	case err == nil && len(out.Vpcs) > 0:
		return awssdk.ToString(out.Vpcs[0].VpcId), nil
	case err != nil && kindOf(err) != backends.Config:
		return "", err
	}
	missing := wrong(field, "there is no %s in region %s", what, r.name)
	missing.Remedy = "Name a VPC of the region in vpc_ids or vpc_name of the backend"
	if field[0] == "default_vpcs" {
		missing.Remedy = "Create a default VPC there, or name one in vpc_ids of the backend"
	}
	return "", missing
}

// ways says how a subnet reaches the internet: by the table that is bound to
// it, else by the main one.
func ways(tables []types.RouteTable, id string) (public, private bool) {
	var main, own *types.RouteTable
	for i, t := range tables {
		for _, bound := range t.Associations {
			switch {
			case awssdk.ToString(bound.SubnetId) == id:
				own = &tables[i]
			case awssdk.ToBool(bound.Main):
				main = &tables[i]
			}
		}
	}
	table := cmp.Or(own, main)
	if table == nil {
		return false, false
	}
	for _, route := range table.Routes {
		public = public || strings.HasPrefix(awssdk.ToString(route.GatewayId), "igw-")
		away := route.NatGatewayId != nil || route.TransitGatewayId != nil || route.VpcPeeringConnectionId != nil
		private = private || awssdk.ToString(route.DestinationCidrBlock) == "0.0.0.0/0" && away
	}
	return public, private
}

// places are one subnet of each zone, in the order of the zones asked for: the
// one with most free addresses.
func (n network) places(zones []string, public bool) ([]subnet, error) {
	best := map[string]subnet{}
	for _, s := range n.subnets {
		usable := s.public
		if !public {
			usable = s.private
		}
		if known, ok := best[s.zone]; usable && (!ok || s.free > known.free) {
			best[s.zone] = s
		}
	}
	if len(best) == 0 {
		field := []string{"public_ips"}
		if public {
			return nil, wrong(field, "VPC %s has no subnet with a route to an internet gateway", n.vpc)
		}
		return nil, wrong(field, "VPC %s has no private subnet with a way out by NAT, a transit gateway or a peering", n.vpc)
	}
	if len(zones) == 0 {
		zones = sortedKeys(best)
	}
	var out []subnet
	for _, zone := range zones {
		if s, ok := best[zone]; ok {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, refuse(backends.NoCapacity, "VPC %s has no subnet in %s", n.vpc, strings.Join(zones, ", "))
	}
	return out, nil
}

// groupName is the security group of a project's machines.
func groupName(project string) string {
	return strings.ToLower(strings.ReplaceAll("dstack_security_group_"+project, "-", "_"))
}

// securityGroup finds or makes the group of a project: SSH from everywhere, and
// everything between its machines.
func (a *Account) securityGroup(ctx context.Context, r *region, vpc, project string) (string, error) {
	name := groupName(project)
	return remember(a.known, strings.Join([]string{"group", r.name, vpc, name}, "/"), networkTTL, func() (string, error) {
		group, err := findGroup(ctx, r, vpc, name)
		if err != nil {
			return "", err
		}
		if group == nil {
			made, err := r.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
				GroupName: &name, VpcId: &vpc, Description: awssdk.String("Generated by dstack"),
				TagSpecifications: tagged(a.tags(map[string]string{backends.TagOwner: "dstack", backends.TagProject: project}, name),
					types.ResourceTypeSecurityGroup),
			})
			switch {
			case err == nil:
				group = &types.SecurityGroup{GroupId: made.GroupId}
			case code(err) != "InvalidGroup.Duplicate":
				return "", err
			default: // somebody else made it at the same time
				if group, err = findGroup(ctx, r, vpc, name); err != nil {
					return "", err
				}
			}
		}
		if group == nil {
			return "", refuse(backends.Transient, "security group %s is not shown yet", name)
		}
		return awssdk.ToString(group.GroupId), allow(ctx, r, *group)
	})
}

func findGroup(ctx context.Context, r *region, vpc, name string) (*types.SecurityGroup, error) {
	out, err := r.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{
		Filters: []types.Filter{filter("group-name", name), filter("vpc-id", vpc)},
	})
	if err != nil || len(out.SecurityGroups) == 0 {
		return nil, err
	}
	return &out.SecurityGroups[0], nil
}

// allow adds the rules that a group lacks.
func allow(ctx context.Context, r *region, group types.SecurityGroup) error {
	itself := types.IpPermission{IpProtocol: awssdk.String("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: group.GroupId}}}
	ssh := types.IpPermission{
		IpProtocol: awssdk.String("tcp"), FromPort: awssdk.Int32(sshPort), ToPort: awssdk.Int32(sshPort),
		IpRanges: []types.IpRange{{CidrIp: awssdk.String("0.0.0.0/0")}},
	}
	toItself := func(p types.IpPermission) bool {
		return slices.ContainsFunc(p.UserIdGroupPairs, func(g types.UserIdGroupPair) bool {
			return awssdk.ToString(g.GroupId) == awssdk.ToString(group.GroupId)
		})
	}
	bySSH := func(p types.IpPermission) bool { return awssdk.ToInt32(p.FromPort) == sshPort && len(p.IpRanges) > 0 }
	var errs []error
	for _, rule := range []struct {
		is func(types.IpPermission) bool
		p  types.IpPermission
	}{{bySSH, ssh}, {toItself, itself}} {
		if !slices.ContainsFunc(group.IpPermissions, rule.is) {
			_, err := r.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
				GroupId: group.GroupId, IpPermissions: []types.IpPermission{rule.p},
			})
			errs = append(errs, notTwice(err))
		}
	}
	// Everything may go out already; EFA needs its own group named.
	if !slices.ContainsFunc(group.IpPermissionsEgress, toItself) {
		_, err := r.ec2.AuthorizeSecurityGroupEgress(ctx, &ec2.AuthorizeSecurityGroupEgressInput{
			GroupId: group.GroupId, IpPermissions: []types.IpPermission{itself},
		})
		errs = append(errs, notTwice(err))
	}
	return errors.Join(errs...)
}

func notTwice(err error) error {
	if code(err) == "InvalidPermission.Duplicate" {
		return nil
	}
	return err
}
