package aws

import (
	"cmp"
	"context"
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"dstack/controller/backends"
)

const sshPort = 22

// Describe is that of [backends.Backend].
func (a *Account) Describe(ctx context.Context, ref backends.Ref) (backends.Machine, error) {
	m, err := a.describe(ctx, ref)
	return m, a.failed(ctx, "describe", ref.Region, err)
}

func (a *Account) describe(ctx context.Context, ref backends.Ref) (backends.Machine, error) {
	r, err := a.region(ref.Region)
	if err != nil {
		return backends.Machine{}, err
	}
	found, err := a.find(ctx, r, ref)
	if err != nil {
		return backends.Machine{}, err
	}
	m := a.machine(r, *found)
	if m.State == backends.MachineRunning && m.Address == "" {
		m.Address, err = a.elasticAddress(ctx, r, *found, ref.Data)
		if err != nil {
			return backends.Machine{}, err
		}
	}
	return m, nil
}

// find is the instance of a reference. Of several with one token, the one that
// lives comes first.
func (a *Account) find(ctx context.Context, r *region, ref backends.Ref) (*types.Instance, error) {
	in := &ec2.DescribeInstancesInput{}
	if ref.ID != "" {
		in.InstanceIds = []string{ref.ID}
	} else {
		in.Filters = []types.Filter{filter("client-token", ref.Token)}
	}
	all, err := instances(ctx, r, in)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(x, y types.Instance) int { return cmp.Compare(gone(x), gone(y)) })
	if len(all) == 0 {
		return nil, refuse(backends.NotFound, "machine %s does not exist", cmp.Or(ref.ID, ref.Token))
	}
	return &all[0], nil
}

func gone(i types.Instance) int {
	if stateOf(i) == backends.MachineGone {
		return 1
	}
	return 0
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: &name, Values: values}
}

// instances are those of all pages.
func instances(ctx context.Context, r *region, in *ec2.DescribeInstancesInput) ([]types.Instance, error) {
	var out []types.Instance
	pages := ec2.NewDescribeInstancesPaginator(r.ec2, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return out, err
		}
		for _, reservation := range page.Reservations {
			out = append(out, reservation.Instances...)
		}
	}
	return out, nil
}

// Delete is that of [backends.Backend].
func (a *Account) Delete(ctx context.Context, ref backends.Ref) error {
	return a.failed(ctx, "delete", ref.Region, a.remove(ctx, ref))
}

func (a *Account) remove(ctx context.Context, ref backends.Ref) error {
	r, err := a.region(ref.Region)
	if err != nil {
		return err
	}
	if ref.ID == "" {
		found, err := a.find(ctx, r, ref)
		if kindOf(err) == backends.NotFound {
			return nil
		}
		if err != nil {
			return err
		}
		ref = a.machine(r, *found).Ref
	}
	_, err = r.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{ref.ID}})
	if err != nil && kindOf(err) != backends.NotFound {
		return err
	}
	if ref.Data != "" {
		return a.releaseAddress(ctx, r, ref.ID, ref.Data)
	}
	return nil
}

// List is that of [backends.Backend].
func (a *Account) List(ctx context.Context, server string) ([]backends.Machine, error) {
	return everywhere(ctx, a, "list", func(ctx context.Context, r *region) ([]backends.Machine, error) {
		found, err := instances(ctx, r, &ec2.DescribeInstancesInput{
			Filters: []types.Filter{filter("tag:"+backends.TagServer, server)}, MaxResults: &a.page,
		})
		out := make([]backends.Machine, 0, len(found))
		for _, i := range found {
			out = append(out, a.machine(r, i))
		}
		return out, err
	})
}

// machine translates an instance.
func (a *Account) machine(r *region, i types.Instance) backends.Machine {
	m := backends.Machine{
		Ref:      backends.Ref{ID: awssdk.ToString(i.InstanceId), Region: r.name},
		State:    stateOf(i),
		Type:     string(i.InstanceType),
		Spot:     i.InstanceLifecycle == types.InstanceLifecycleTypeSpot,
		Internal: awssdk.ToString(i.PrivateIpAddress),
		SSHPort:  sshPort,
		User:     a.user(i),
		Tags:     map[string]string{},
	}
	m.Token = awssdk.ToString(i.ClientToken)
	if i.LaunchTime != nil {
		m.CreatedAt = *i.LaunchTime
	}
	if i.Placement != nil {
		m.Zone = awssdk.ToString(i.Placement.AvailabilityZone)
	}
	for _, t := range i.Tags {
		m.Tags[awssdk.ToString(t.Key)] = awssdk.ToString(t.Value)
	}
	m.Name = m.Tags[tagConsoleName]
	m.Address = awssdk.ToString(i.PublicIpAddress)
	if !a.publicIPs() {
		m.Address = m.Internal
	}
	if a.publicIPs() && len(i.NetworkInterfaces) > 1 {
		m.Data = elasticData
	}
	if s := i.StateReason; s != nil {
		why := awssdk.ToString(s.Code)
		m.Interrupted = why == "Server.SpotInstanceTermination" || why == "Server.SpotInstanceShutdown"
		if m.State == backends.MachineStopping || m.State == backends.MachineGone {
			m.Reason = awssdk.ToString(s.Message)
		}
	}
	return m
}

// stateOf is where an instance stands. One that was stopped still costs its
// disk.
func stateOf(i types.Instance) backends.MachineState {
	if i.State == nil {
		return backends.MachinePending
	}
	switch i.State.Name {
	case types.InstanceStateNameRunning:
		return backends.MachineRunning
	case types.InstanceStateNameShuttingDown, types.InstanceStateNameStopping, types.InstanceStateNameStopped:
		return backends.MachineStopping
	case types.InstanceStateNameTerminated:
		return backends.MachineGone
	}
	return backends.MachinePending
}
