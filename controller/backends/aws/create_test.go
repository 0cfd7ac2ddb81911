package aws

import (
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"dstack/controller/backends"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

func TestRequest(t *testing.T) {
	p := plan{
		image: image{id: "ami-1", device: "/dev/sda1", sizeGB: 75}, group: "sg-1", public: true, profile: awssdk.String("profile"),
		tags: map[string]string{"b": "2", "a": "1"},
	}
	place := subnet{id: "subnet-1", zone: "us-east-1a"}
	in := request(backends.MachineSpec{Token: "token", Type: "m5.large", DiskGB: 100, Spot: true, UserData: "data", PlacementGroup: "group"}, p, place)
	if *in.ClientToken != "token" || *in.ImageId != "ami-1" || *in.UserData != "ZGF0YQ==" || *in.IamInstanceProfile.Name != "profile" {
		t.Errorf("%+v", in)
	}
	if m := in.MetadataOptions; m.HttpTokens != types.HttpTokensStateRequired || *m.HttpPutResponseHopLimit != 1 {
		t.Errorf("metadata: %+v", m)
	}
	if d := in.BlockDeviceMappings[0].Ebs; d.VolumeType != types.VolumeTypeGp3 || *d.VolumeSize != 100 || !*d.DeleteOnTermination {
		t.Errorf("disk: %+v", d)
	}
	if m := in.InstanceMarketOptions; m.MarketType != types.MarketTypeSpot || m.SpotOptions.SpotInstanceType != types.SpotInstanceTypeOneTime {
		t.Errorf("market: %+v", m)
	}
	if *in.Placement.GroupName != "group" || *in.TagSpecifications[0].Tags[0].Key != "a" {
		t.Errorf("placement %+v, tags %+v", in.Placement, in.TagSpecifications)
	}
	if n := in.NetworkInterfaces; len(n) != 1 || !*n[0].AssociatePublicIpAddress || *n[0].SubnetId != "subnet-1" || n[0].Groups[0] != "sg-1" {
		t.Errorf("network: %+v", n)
	}
	small := request(backends.MachineSpec{Type: "m5.large", DiskGB: 10}, p, place)
	if *small.BlockDeviceMappings[0].Ebs.VolumeSize != 75 || small.InstanceMarketOptions != nil || small.Placement != nil || small.UserData != nil {
		t.Errorf("%+v", small)
	}
}

// TestAddressTags: a user's tag must not make an address another machine's.
func TestAddressTags(t *testing.T) {
	got := addressTags(types.Instance{InstanceId: awssdk.String("i-1"), Tags: []types.Tag{
		{Key: awssdk.String(tagMachine), Value: awssdk.String("i-2")}, {Key: awssdk.String("a"), Value: awssdk.String("b")},
	}})
	if diff := cmp.Diff(map[string]string{tagMachine: "i-1", "a": "b"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRequestReservation(t *testing.T) {
	for _, c := range []struct {
		name    string
		kind    types.CapacityReservationType
		tenancy types.CapacityReservationTenancy
		market  types.MarketType
		place   *types.Placement
	}{
		{name: "reservation", kind: types.CapacityReservationTypeDefault, tenancy: types.CapacityReservationTenancyDefault},
		{
			name: "dedicated", kind: types.CapacityReservationTypeDefault, tenancy: types.CapacityReservationTenancyDedicated,
			place: &types.Placement{Tenancy: types.TenancyDedicated},
		},
		{name: "block", kind: types.CapacityReservationTypeCapacityBlock, market: types.MarketTypeCapacityBlock},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan{reservation: &types.CapacityReservation{
				CapacityReservationId: awssdk.String("cr-1"), ReservationType: c.kind, Tenancy: c.tenancy,
			}}
			in := request(backends.MachineSpec{Type: "p5.48xlarge"}, p, subnet{})
			if id := in.CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId; *id != "cr-1" {
				t.Errorf("target: %s", *id)
			}
			var market types.MarketType
			if in.InstanceMarketOptions != nil {
				market = in.InstanceMarketOptions.MarketType
			}
			if market != c.market || (in.Placement == nil) != (c.place == nil) || c.place != nil && in.Placement.Tenancy != c.place.Tenancy {
				t.Errorf("market %q, placement %+v", market, in.Placement)
			}
		})
	}
}

func TestInterfaces(t *testing.T) {
	type nic struct {
		card, device int32
		kind         string
		public       bool
	}
	for _, c := range []struct {
		name   string
		fabric fabric
		count  int
		want   map[int]nic
	}{
		{"plain", fabric{machineType: "m5.large"}, 1, map[int]nic{0: {public: true}}},
		{"one EFA", fabric{"g6.8xlarge", 1}, 1, map[int]nic{0: {kind: "efa", public: true}}},
		{"p4d", fabric{"p4d.24xlarge", 4}, 4, map[int]nic{0: {kind: "efa"}, 3: {3, 1, "efa-only", false}}},
		{"p5", fabric{"p5.48xlarge", 32}, 32, map[int]nic{0: {kind: "efa"}, 4: {4, 1, "efa", false}, 31: {31, 1, "efa-only", false}}},
		{"p6-b300", fabric{"p6-b300.48xlarge", 16}, 17, map[int]nic{0: {}, 1: {1, 1, "efa-only", false}, 16: {16, 1, "efa-only", false}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.fabric.requests("subnet-1", "sg-1", true)
			if len(got) != c.count {
				t.Fatalf("%d interfaces, want %d", len(got), c.count)
			}
			for i, want := range c.want {
				have := nic{
					awssdk.ToInt32(got[i].NetworkCardIndex), awssdk.ToInt32(got[i].DeviceIndex),
					awssdk.ToString(got[i].InterfaceType), awssdk.ToBool(got[i].AssociatePublicIpAddress),
				}
				if have != want {
					t.Errorf("interface %d is %+v, want %+v", i, have, want)
				}
			}
		})
	}
}

func TestTags(t *testing.T) {
	a := &Account{cfg: &config.AWSBackend{Tags: map[string]string{"team": "backend", backends.TagServer: "forged"}}}
	got := a.tags(map[string]string{"team": "resource", "job": "x", backends.TagServer: "ours"}, "name")
	want := map[string]string{"team": "backend", "job": "x", backends.TagServer: "ours", "Name": "name"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestImage(t *testing.T) {
	arm, own := "arm", &config.AWSImage{Name: "mine", Owner: "self", User: "admin"}
	for _, c := range []struct {
		name   string
		images *config.AWSImages
		res    api.Resources
		want   string
	}{
		{"CPU", nil, api.Resources{}, "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*"},
		{"arm", nil, api.Resources{CPUArch: &arm}, "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-arm64-server-*"},
		{"GPU", nil, api.Resources{GPUs: []api.GPU{{}}}, "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) *"},
		{"own", &config.AWSImages{CPU: own}, api.Resources{}, "mine"},
		{"own for CPU only", &config.AWSImages{CPU: own}, api.Resources{GPUs: []api.GPU{{}}}, "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) *"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &Account{cfg: &config.AWSBackend{OSImages: c.images}}
			if got, _ := a.wanted(c.res); got.Name != c.want {
				t.Errorf("%q", got.Name)
			}
		})
	}
	a := &Account{cfg: &config.AWSBackend{OSImages: &config.AWSImages{CPU: own}}}
	for machineType, want := range map[types.InstanceType]string{"m5.large": "admin", "g5.xlarge": "ubuntu"} {
		if got := a.user(types.Instance{InstanceType: machineType}); got != want {
			t.Errorf("the user of %s is %s", machineType, got)
		}
	}
	old, latest := types.Image{CreationDate: awssdk.String("2025-12-31T00:00:00.000Z")}, types.Image{CreationDate: awssdk.String("2026-01-01T00:00:00.000Z")}
	if got := newestImage([]types.Image{old, latest, old}); got.CreationDate != latest.CreationDate {
		t.Errorf("newest: %+v", got)
	}
}
