package aws

import (
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"dstack/controller/backends"
)

func TestWays(t *testing.T) {
	gateway := types.Route{DestinationCidrBlock: awssdk.String("0.0.0.0/0"), GatewayId: awssdk.String("igw-1")}
	nat := types.Route{DestinationCidrBlock: awssdk.String("0.0.0.0/0"), NatGatewayId: awssdk.String("nat-1")}
	peering := types.Route{DestinationCidrBlock: awssdk.String("10.0.0.0/8"), VpcPeeringConnectionId: awssdk.String("pcx-1")}
	main := func(routes ...types.Route) types.RouteTable {
		return types.RouteTable{Routes: routes, Associations: []types.RouteTableAssociation{{Main: awssdk.Bool(true)}}}
	}
	own := func(routes ...types.Route) types.RouteTable {
		return types.RouteTable{Routes: routes, Associations: []types.RouteTableAssociation{{SubnetId: awssdk.String("subnet-1")}}}
	}
	for _, c := range []struct {
		name            string
		tables          []types.RouteTable
		public, private bool
	}{
		{"none", nil, false, false},
		{"main to the internet", []types.RouteTable{main(gateway)}, true, false},
		{"main by NAT", []types.RouteTable{main(nat)}, false, true},
		{"its own comes first", []types.RouteTable{main(gateway), own(nat)}, false, true},
		{"a peering for some addresses", []types.RouteTable{own(peering)}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if public, private := ways(c.tables, "subnet-1"); public != c.public || private != c.private {
				t.Errorf("public %t, private %t", public, private)
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	n := network{vpc: "vpc-1", subnets: []subnet{
		{id: "few", zone: "b", free: 1, public: true}, {id: "many", zone: "b", free: 9, public: true},
		{id: "a", zone: "a", free: 1, public: true}, {id: "hidden", zone: "c", free: 5, private: true},
	}}
	for _, c := range []struct {
		name   string
		zones  []string
		public bool
		want   string
		kind   backends.Kind
	}{
		{name: "all", public: true, want: "a many "},
		{name: "in the order asked for", zones: []string{"b", "a"}, public: true, want: "many a "},
		{name: "private", want: "hidden "},
		{name: "a zone without a subnet", zones: []string{"x"}, public: true, kind: backends.NoCapacity},
	} {
		t.Run(c.name, func(t *testing.T) {
			places, err := n.places(c.zones, c.public)
			got := ""
			for _, p := range places {
				got += p.id + " "
			}
			if got != c.want || (err == nil) != (c.kind == "") || err != nil && kindOf(err) != c.kind {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	if _, err := (network{}).places(nil, true); kindOf(err) != backends.Config {
		t.Errorf("a VPC without subnets: %v", err)
	}
	if got := groupName("My-Project"); got != "dstack_security_group_my_project" {
		t.Errorf("group %s", got)
	}
}
