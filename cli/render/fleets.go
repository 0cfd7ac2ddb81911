package render

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"dstack/cli/term"
	"dstack/protocol/api"
)

// FleetsTable is the table of `fleet` and of a fleet that is being applied.
// Fleets of another project than project are shown as `project/name`. What
// is wrong with a host stands below its row.
func FleetsTable(fleets []api.Fleet, project string, verbose bool, when func(time.Time) string) term.Table {
	t := term.Table{Columns: []term.Column{
		{Title: "NAME"}, {Title: "NODES"}, {Title: "GPU"}, {Title: "SPOT"}, {Title: "BACKEND"},
		{Title: "PRICE"}, {Title: "STATUS", Wrap: true}, {Title: "CREATED"},
	}}
	if verbose {
		t.Columns = []term.Column{
			{Title: "NAME"}, {Title: "NODES", Wrap: true}, {Title: "RESOURCES", Wrap: true}, {Title: "DRIVER"},
			{Title: "SPOT"}, {Title: "BACKEND", Wrap: true}, {Title: "PRICE"}, {Title: "STATUS", Wrap: true},
			{Title: "CREATED"}, {Title: "ERROR", Wrap: true},
		}
	}
	fleets = slices.SortedStableFunc(slices.Values(fleets), func(a, b api.Fleet) int {
		return b.CreatedAt.Compare(a.CreatedAt.Time)
	})
	for _, fleet := range fleets {
		t.Rows = append(t.Rows, fleetRow(fleet, project, verbose, when))
		for _, instance := range fleet.Instances {
			t.Rows = append(t.Rows, instanceRow(instance, verbose, when))
		}
	}
	return t
}

func fleetRow(f api.Fleet, project string, verbose bool, when func(time.Time) string) term.Row {
	name := f.Name
	if f.ProjectName != "" && f.ProjectName != project {
		name = f.ProjectName + "/" + name
	}
	conf := f.Spec.Configuration
	nodes := FleetNodes(f.Spec)
	if verbose && deref(conf.Placement) == "cluster" {
		nodes += " (cluster)"
	}
	var gpu, resources, backend, spot, price string
	if conf.SSHConfig != nil {
		backend = "ssh"
	} else {
		backend, spot = "*", cmp.Or(deref(conf.SpotPolicy), "on-demand")
		if len(conf.Backends) > 0 {
			backend = strings.Join(conf.Backends, ", ")
		}
		if conf.MaxPrice != nil {
			price = "$0.." + number(*conf.MaxPrice, 4)
		}
		if conf.Resources != nil {
			resources = Requirements(*conf.Resources)
			if g := conf.Resources.GPU; g != nil {
				gpu = WantedGPU(*g)
				if len(g.Name) == 0 && g.Vendor == nil {
					gpu = "gpu:" + gpu
				}
			}
		}
	}
	texts := []string{name, nodes, gpu, spot, backend, price, string(f.Status), when(f.CreatedAt.Time)}
	status := 6
	if verbose {
		texts = []string{name, nodes, resources, "", spot, backend, price, string(f.Status), when(f.CreatedAt.Time), deref(f.StatusMessage)}
		status = 7
	}
	cells := make([]term.Cell, len(texts))
	for i, text := range texts {
		cells[i] = term.Cell{Text: text, Style: term.Secondary}
	}
	cells[0].Style = term.Bold
	cells[status].Style = fleetStyle(f.Status)
	row := term.Row{Cells: cells}
	if !verbose && f.StatusMessage != nil {
		row.Note, row.NoteStyle = *f.StatusMessage, term.Warning
	}
	return row
}

// FleetNodes writes how many hosts a fleet has: "2", "0..2", "1..".
func FleetNodes(spec api.FleetSpec) string {
	conf := spec.Configuration
	switch {
	case conf.SSHConfig != nil:
		return strconv.Itoa(len(conf.SSHConfig.Hosts))
	case conf.Nodes == nil:
		return ""
	case conf.Nodes.Max == nil:
		return fmt.Sprintf("%d..", conf.Nodes.Min)
	case *conf.Nodes.Max == conf.Nodes.Min:
		return strconv.Itoa(conf.Nodes.Min)
	}
	return fmt.Sprintf("%d..%d", conf.Nodes.Min, *conf.Nodes.Max)
}

func instanceRow(i api.Instance, verbose bool, when func(time.Time) string) term.Row {
	gpu, resources, spot := "", "", ""
	if i.InstanceType != nil {
		have := i.InstanceType.Resources
		gpu, resources = cmp.Or(GPUs(have.GPUs), "-"), Machine(have)
		if deref(i.Backend) != "remote" {
			spot = "on-demand"
			if have.Spot {
				spot = "spot"
			}
		}
	}
	region := deref(i.Region)
	if verbose {
		region = cmp.Or(deref(i.AvailabilityZone), region)
	}
	price := ""
	if i.Price != nil && deref(i.Backend) != "remote" {
		price = Price(*i.Price, 4)
	}
	backend := Place(deref(i.Backend), region)
	name := fmt.Sprintf("   instance=%d", i.InstanceNum)
	texts := []string{name, "", gpu, spot, backend, price, InstanceStatus(i), when(i.Created.Time)}
	status := 6
	if verbose {
		driver := ""
		if i.GPUDriver != nil {
			driver = i.GPUDriver.Version
		}
		texts = []string{name, "", resources, driver, spot, backend, price, InstanceStatus(i), when(i.Created.Time), deref(i.TerminationReason)}
		status = 7
	}
	cells := make([]term.Cell, len(texts))
	for n, text := range texts {
		cells[n] = term.T(text)
	}
	cells[status].Style = instanceStyle(i.Status)
	row := term.Row{Cells: cells, NoteStyle: term.Warning}
	row.Note = InstanceNote(i)
	if verbose && row.Note == "" && i.Warning != nil {
		row.Note = named(i, *i.Warning)
	}
	return row
}

// InstanceNote is what is wrong with a host and what to do about it, with
// the host's name; empty if all is well.
func InstanceNote(i api.Instance) string {
	message := strings.TrimSpace(deref(i.TerminationReasonMessage))
	if message == "" {
		return ""
	}
	return named(i, message)
}

// named puts the host's name before a message that lacks it.
func named(i api.Instance, message string) string {
	host := deref(i.Hostname)
	if host != "" && !strings.Contains(message, host) {
		message = host + ": " + message
	}
	return message
}

// InstanceStatus is the status with what makes it special: busy blocks,
// "unreachable", health.
func InstanceStatus(i api.Instance) string {
	status := string(i.Status)
	if total := deref(i.TotalBlocks); total > 1 && (i.Status == api.InstanceIdle || i.Status == api.InstanceBusy) && i.BusyBlocks > 0 {
		status = fmt.Sprintf("%d/%d busy", i.BusyBlocks, total)
	}
	switch {
	case i.Status == api.InstanceTerminated:
	case i.Unreachable:
		status += " (unreachable)"
	case i.HealthStatus == "warning" || i.HealthStatus == "failure":
		status += " (" + i.HealthStatus + ")"
	}
	return status
}

func fleetStyle(s api.FleetStatus) term.Style {
	switch s {
	case api.FleetTerminating:
		return term.Blue
	case "failed":
		return term.Red
	}
	return term.Secondary
}

func instanceStyle(s api.InstanceStatus) term.Style {
	switch s {
	case api.InstanceIdle:
		return term.Green.With(term.Bold)
	case api.InstanceTerminated:
		return term.Secondary
	}
	return term.Blue.With(term.Bold)
}
