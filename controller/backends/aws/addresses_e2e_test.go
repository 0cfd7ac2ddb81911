//go:build e2e

package aws

import (
	"errors"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"dstack/controller/backends"
	"dstack/protocol/config"
	"dstack/test/cloudlab/moto"
)

// wide rents a machine with several interfaces, which AWS gives no public
// address.
func wide(t *testing.T) (*Account, backends.Machine) {
	t.Helper()
	a := account(t, &config.AWSBackend{Regions: []string{testRegion, "eu-west-1"}})
	const group, machineType = "group", "p4d.24xlarge"
	if err := a.CreatePlacementGroup(t.Context(), group, testRegion, machineType, nil); err != nil {
		t.Fatal(err)
	}
	m, err := a.Create(t.Context(), backends.MachineSpec{
		Token: "t", Region: testRegion, Type: machineType, DiskGB: 30, PlacementGroup: group, Tags: map[string]string{backends.TagServer: "me"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return a, m
}

func (a *Account) addresses(t *testing.T) []types.Address {
	t.Helper()
	out, err := a.regions[testRegion].ec2.DescribeAddresses(t.Context(), &ec2.DescribeAddressesInput{})
	if err != nil {
		t.Fatal(err)
	}
	return out.Addresses
}

// severalInterfaces: such a machine gets one address from whoever keeps it, and
// gives it back.
func severalInterfaces(t *testing.T, double *moto.Double) {
	a, m := wide(t)
	ctx := t.Context()
	looked := m.Ref
	looked.Data = ""
	if got, err := a.Describe(ctx, looked); err != nil || got.Address != "" || got.Data == "" || len(a.addresses(t)) > 0 {
		t.Fatalf("who only looks: %+v, %v, %+v", got, err, a.addresses(t))
	}
	// All attempts of one call act, and no answer comes.
	double.Inject(t, moto.Fault{Action: "AllocateAddress", Lost: true})
	if _, err := a.Describe(ctx, m.Ref); !errors.Is(err, backends.Transient) {
		t.Fatalf("a lost answer: %v", err)
	}
	if n := len(a.addresses(t)); n < 2 {
		t.Fatalf("the lost answers made %d addresses: nothing is proven", n)
	}
	var address string
	for range 2 {
		got, err := a.Describe(ctx, m.Ref)
		if err != nil || got.Address == "" || address != "" && got.Address != address {
			t.Fatalf("%+v, %v", got, err)
		}
		m, address = got, got.Address
	}
	if got := a.addresses(t); len(got) != 1 || awssdk.ToString(got[0].PublicIp) != address {
		t.Errorf("%s has %+v", address, got)
	}
	for range 2 {
		if err := a.Delete(ctx, m.Ref); err != nil {
			t.Fatal(err)
		}
	}
	if got := a.addresses(t); len(got) > 0 {
		t.Errorf("left: %+v", got)
	}
}

// leftAddresses: one that was never used is given back with its machine, and
// one that outlived its machine is found.
func leftAddresses(t *testing.T, double *moto.Double) {
	a, m := wide(t)
	ctx := t.Context()
	double.Inject(t, moto.Fault{Action: "AssociateAddress", Code: "InternalError", Status: 500})
	if _, err := a.Describe(ctx, m.Ref); err == nil || len(a.addresses(t)) != 1 {
		t.Fatalf("allocated only: %v, %+v", err, a.addresses(t))
	}
	loose := func(server string, want int) []backends.Address {
		t.Helper()
		got, err := a.LooseAddresses(ctx, server)
		if err != nil || len(got) != want {
			t.Fatalf("%s has %+v, %v; want %d", server, got, err, want)
		}
		return got
	}
	loose("me", 0) // its machine is alive
	forgotten := m.Ref
	forgotten.Data = ""
	if err := a.Delete(ctx, forgotten); err != nil {
		t.Fatal(err)
	}
	loose("another", 0)
	found := loose("me", 1)[0]
	if found.Machine != m.ID || found.IP == "" || found.Price <= 0 {
		t.Errorf("%+v", found)
	}
	for range 2 {
		if err := a.ReleaseAddress(ctx, found); err != nil {
			t.Fatal(err)
		}
	}
	if got := a.addresses(t); len(got) > 0 {
		t.Errorf("left: %+v", got)
	}
	if err := a.Delete(ctx, m.Ref); err != nil {
		t.Error(err)
	}
}
