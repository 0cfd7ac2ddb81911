package api

import (
	"strings"

	"dstack/controller/engine"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

// fleetView renders a fleet; instances are those that are not deleted, in
// the order of their numbers, and busy maps an instance to its job's name.
func fleetView(f *store.Fleet, project string, instances []store.Instance, busy map[string]string) api.Fleet {
	v := api.Fleet{
		ID: f.ID, Name: f.Name, ProjectName: project,
		Spec:      stripFleet(f.Spec),
		CreatedAt: api.At(f.CreatedAt), Status: f.Status, StatusMessage: f.StatusMessage,
		Instances: make([]api.Instance, 0, len(instances)),
	}
	for i := range instances {
		v.Instances = append(v.Instances, instanceView(&instances[i], project, f.Name, busy[instances[i].ID]))
	}
	return v
}

// instanceView renders an instance of the fleet. job is the name of the job
// that runs on it, or empty.
func instanceView(in *store.Instance, project, fleet, job string) api.Instance {
	v := api.Instance{
		ID: in.ID, ProjectName: project,
		Backend:      none(in.Backend),
		InstanceType: in.Type,
		Name:         in.Name,
		FleetID:      new(in.FleetID), FleetName: new(fleet),
		InstanceNum: in.Num,
		JobName:     none(job), Hostname: none(in.Hostname),
		Status:      in.Status,
		Unreachable: in.Unreachable, HealthStatus: string(engine.HealthOf(in)),
		TerminationReason: text(in.Reason), TerminationReasonMessage: in.ReasonMessage,
		Created:    api.At(in.CreatedAt),
		FinishedAt: timeRef(in.FinishedAt),
		Region:     none(in.Region),
		BusyBlocks: in.BusyBlocks,
		GPUDriver:  in.GPUDriver,
	}
	if in.Backend != "" {
		v.Price = &in.Price
	}
	if in.TotalBlocks > 0 {
		v.TotalBlocks = &in.TotalBlocks
	}
	if in.ReasonMessage == nil && in.Info != nil && in.Info.Problem != nil {
		v.TerminationReasonMessage = new(in.Info.Problem.Error())
	}
	if m := in.Machine; m != nil {
		v.AvailabilityZone = none(m.Zone)
		if in.Status == api.InstanceTerminating {
			v.TerminationReasonMessage = withTrouble(v.TerminationReasonMessage, m.Trouble)
		}
	}
	v.Warning = warningOf(in.Info)
	return v
}

// withTrouble adds to a message what a machine's cloud answers instead of what
// it is asked for.
func withTrouble(message *string, trouble string) *string {
	switch {
	case trouble == "":
		return message
	case message == nil || *message == "":
		return &trouble
	}
	return new(*message + ". " + trouble)
}

// warningOf says what a usable host lacks.
func warningOf(info *hostapi.Info) *string {
	if info == nil || info.Problem != nil {
		return nil
	}
	var wrong []string
	if info.Health != nil {
		for _, i := range info.Health.Incidents {
			wrong = append(wrong, i.Message)
		}
	}
	if info.Runtime == hostapi.Docker && !info.LiveRestore {
		wrong = append(wrong, `Jobs end when the Docker Engine is restarted: set "live-restore": true in /etc/docker/daemon.json to keep them`)
	}
	if wrong == nil {
		return nil
	}
	return new(strings.Join(wrong, ". "))
}

// stripFleet returns the specification without any SSH key, and leaves the
// given one as it is (spec: rest-api.md 7.4, weakness 2).
func stripFleet(s api.FleetSpec) api.FleetSpec {
	c := s.Configuration.SSHConfig
	if c == nil {
		return s
	}
	ssh := *c
	ssh.SSHKey = nil
	ssh.ProxyJump = stripProxy(ssh.ProxyJump)
	ssh.Hosts = append([]config.SSHHost(nil), c.Hosts...)
	for i := range ssh.Hosts {
		ssh.Hosts[i].SSHKey = nil
		ssh.Hosts[i].ProxyJump = stripProxy(ssh.Hosts[i].ProxyJump)
	}
	s.Configuration.SSHConfig = &ssh
	return s
}

func stripProxy(p *config.SSHProxy) *config.SSHProxy {
	if p == nil {
		return nil
	}
	stripped := *p
	stripped.SSHKey = nil
	return &stripped
}
