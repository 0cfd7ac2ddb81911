package jobspec

import (
	"strconv"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

// onlyGroup is the name of the group of a run that has no groups.
const onlyGroup = "0"

// ReplicaGroup is a group of equal replicas of a run. Only a service has more
// than one, or a number of replicas other than one.
type ReplicaGroup struct {
	Name string
	// Min and Max bound how many replicas there are.
	Min, Max int
}

// ReplicaGroups lists the groups of a run in the order of its configuration.
func ReplicaGroups(c config.Run) []ReplicaGroup {
	switch s := c.Service; {
	case s == nil:
		return []ReplicaGroup{{onlyGroup, 1, 1}}
	case s.Groups == nil:
		n := config.Range[int]{}
		if s.Replicas != nil {
			n = *s.Replicas
		} else {
			n.Min, n.Max = new(1), new(1)
		}
		return []ReplicaGroup{replicaGroup(onlyGroup, n)}
	default:
		out := make([]ReplicaGroup, len(s.Groups))
		for i, g := range s.Groups {
			out[i] = replicaGroup(groupName(g.Name, i), g.Replicas)
		}
		return out
	}
}

func replicaGroup(name string, n config.Range[int]) ReplicaGroup {
	g := ReplicaGroup{Name: name}
	if n.Min != nil {
		g.Min = *n.Min
	}
	g.Max = g.Min
	if n.Max != nil {
		g.Max = *n.Max
	}
	return g
}

// groupName is the name of a group, by default its number.
func groupName(name *string, i int) string {
	if name != nil {
		return *name
	}
	return strconv.Itoa(i)
}

// workload is what the jobs of one group of nodes have in common. base is that
// of the run with what the group overrides.
type workload struct {
	node     string
	nodes    int
	base     config.RunBase
	profile  config.ProfileParams
	commands []string
	ports    []config.PortMapping
	single   bool // the default of single_branch
	service  int  // the port of a service; 0 if it is none
	probes   []config.Probe
	dev      *config.DevEnvironment
}

// workloads are the groups of nodes of a replica.
func workloads(spec api.RunSpec, group string) []workload {
	c, profile := spec.Configuration, spec.Params()
	switch {
	case c.Task != nil:
		return taskLoads(c.Task, profile)
	case c.DevEnvironment != nil:
		d := c.DevEnvironment
		return []workload{{node: onlyGroup, nodes: 1, base: d.RunBase, profile: profile, ports: d.Ports, dev: d}}
	case c.Service != nil:
		if w, ok := serviceLoad(c.Service, profile, group); ok {
			return []workload{w}
		}
	}
	return nil
}

func taskLoads(t *config.Task, profile config.ProfileParams) []workload {
	w := workload{node: onlyGroup, nodes: 1, base: t.RunBase, profile: profile, commands: t.Commands, ports: t.Ports, single: true}
	if len(t.Groups) == 0 {
		if t.Nodes != nil {
			w.nodes = *t.Nodes
		}
		return []workload{w}
	}
	out := make([]workload, len(t.Groups))
	for i, g := range t.Groups {
		w.node, w.nodes, w.commands, w.ports = groupName(g.Name, i), g.Nodes, g.Commands, g.Ports
		w.base.Resources = g.Resources
		out[i] = w
	}
	return out
}

// serviceLoad is false if the service has no such group (any more).
func serviceLoad(s *config.Service, profile config.ProfileParams, group string) (workload, bool) {
	w := workload{
		node: onlyGroup, nodes: 1, base: s.RunBase, profile: profile, commands: s.Commands, single: true,
		service: s.Port.ContainerPort, probes: s.EffectiveProbes(),
	}
	if s.Groups == nil {
		return w, group == onlyGroup
	}
	for i := range s.Groups {
		g := &s.Groups[i]
		if groupName(g.Name, i) != group {
			continue
		}
		w.base, w.commands = g.Over(s.RunBase), g.Commands
		if g.SpotPolicy != nil {
			w.profile.SpotPolicy = g.SpotPolicy
		}
		if g.Reservation != nil {
			w.profile.Reservation = g.Reservation
		}
		// Behind a router, only the router answers as the model does.
		if s.Probes == nil && s.RouterGroup() >= 0 && g.Router == nil {
			w.probes = nil
		}
		return w, true
	}
	return w, false
}
