package aws

import (
	"context"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"dstack/controller/backends"
)

// CreatePlacementGroup is that of [backends.PlacementGroups].
func (a *Account) CreatePlacementGroup(ctx context.Context, name, region, machineType string, tags map[string]string) error {
	const op = "create placement group"
	r, err := a.region(region)
	if err != nil {
		return a.failed(ctx, op, region, err)
	}
	if strings.HasPrefix(machineType, "t2.") || strings.HasPrefix(machineType, "t3.") {
		return a.failed(ctx, op, region, refuse(backends.Unsupported, "machines of type %s cannot be in a placement group", machineType))
	}
	_, err = r.ec2.CreatePlacementGroup(ctx, &ec2.CreatePlacementGroupInput{
		GroupName: &name, Strategy: types.PlacementStrategyCluster,
		TagSpecifications: tagged(a.tags(tags, ""), types.ResourceTypePlacementGroup),
	})
	if code(err) == "InvalidPlacementGroup.Duplicate" {
		return nil
	}
	return a.failed(ctx, op, region, err)
}

// DeletePlacementGroup is that of [backends.PlacementGroups].
func (a *Account) DeletePlacementGroup(ctx context.Context, name, region string) error {
	r, err := a.region(region)
	if err == nil {
		_, err = r.ec2.DeletePlacementGroup(ctx, &ec2.DeletePlacementGroupInput{GroupName: &name})
	}
	if kindOf(err) == backends.NotFound {
		return nil
	}
	return a.failed(ctx, "delete placement group", region, err)
}

// FindReservation is that of [backends.Reservations].
func (a *Account) FindReservation(ctx context.Context, id string) (backends.Reservation, error) {
	found, err := everywhere(ctx, a, "find reservation", func(ctx context.Context, r *region) ([]backends.Reservation, error) {
		got, err := reservation(ctx, r, id)
		if kindOf(err) == backends.NotFound {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return []backends.Reservation{{
			ID: id, Region: r.name, Zone: awssdk.ToString(got.AvailabilityZone), Type: awssdk.ToString(got.InstanceType),
			Free:  int(awssdk.ToInt32(got.AvailableInstanceCount)),
			Block: got.ReservationType == types.CapacityReservationTypeCapacityBlock,
		}}, nil
	})
	switch {
	case len(found) > 0:
		return found[0], nil
	case err != nil:
		return backends.Reservation{}, err
	}
	return backends.Reservation{}, a.failed(ctx, "find reservation", "",
		refuse(backends.NotFound, "no region of the backend has an active capacity reservation %s", id))
}

// reservation is the active one with an id.
func reservation(ctx context.Context, r *region, id string) (*types.CapacityReservation, error) {
	out, err := r.ec2.DescribeCapacityReservations(ctx, &ec2.DescribeCapacityReservationsInput{
		CapacityReservationIds: []string{id}, Filters: []types.Filter{filter("state", "active")},
	})
	if err != nil {
		return nil, err
	}
	if len(out.CapacityReservations) == 0 {
		return nil, refuse(backends.NotFound, "capacity reservation %s does not exist or is not active in region %s", id, r.name)
	}
	return &out.CapacityReservations[0], nil
}
