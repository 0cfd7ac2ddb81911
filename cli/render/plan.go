package render

import (
	"fmt"
	"strconv"
	"strings"

	"dstack/cli/term"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// fields is a key/value block.
type fields struct{ t term.Table }

func newFields() *fields {
	return &fields{term.Table{NoHeader: true, Columns: []term.Column{{}, {Wrap: true}}}}
}

func (f *fields) add(key, value string) {
	f.t.Rows = append(f.t.Rows, term.Row{Cells: []term.Cell{{Text: key, Style: term.Bold}, term.T(value)}})
}

// RunPlan is the header of a run's plan: what is asked for.
func RunPlan(plan api.RunPlan, verbose bool) term.Table {
	spec := plan.RunSpec
	if plan.EffectiveRunSpec != nil {
		spec = *plan.EffectiveRunSpec
	}
	f := newFields()
	f.add("Project", plan.ProjectName)
	f.add("User", plan.User)
	f.add("Type", runType(spec.Configuration))
	var job api.JobSpec
	if len(plan.JobPlans) > 0 {
		job = plan.JobPlans[0].JobSpec
	}
	f.add("Resources", Requirements(job.Requirements.Resources))
	f.add("Spot policy", spotPolicy(job.Requirements.Spot))
	f.add("Max price", maxPrice(job.Requirements.MaxPrice))
	f.add("Retry policy", retryPolicy(job.Retry))
	params := spec.Params()
	if creation := deref(params.CreationPolicy); verbose || (creation != "" && creation != "reuse-or-create") {
		if creation == "" {
			creation = "reuse-or-create"
		}
		f.add("Creation policy", creation)
	}
	f.add("Idle duration", idleDuration(params.IdleDuration))
	f.add("Max duration", secondsOrOff(job.MaxDuration))
	if env := spec.Configuration.DevEnvironment; env != nil {
		f.add("Inactivity duration", secondsOrOff(env.InactivityDuration))
	}
	if reservation := deref(job.Requirements.Reservation); verbose || reservation != "" {
		if reservation == "" {
			reservation = "no"
		}
		f.add("Reservation", reservation)
	}
	return f.t
}

func runType(conf config.Run) string {
	if conf.Task == nil {
		return conf.Type()
	}
	nodes := 1
	if conf.Task.Nodes != nil {
		nodes = *conf.Task.Nodes
	}
	if len(conf.Task.Groups) > 0 {
		nodes = 0
		for _, g := range conf.Task.Groups {
			nodes += g.Nodes
		}
	}
	return fmt.Sprintf("task (nodes=%d)", nodes)
}

func spotPolicy(spot *bool) string {
	switch {
	case spot == nil:
		return "auto"
	case *spot:
		return "spot"
	}
	return "on-demand"
}

func maxPrice(price *float64) string {
	if price == nil {
		return "off"
	}
	return Price(*price, 6)
}

func retryPolicy(r *api.Retry) string {
	if r == nil {
		return "off"
	}
	return Duration(r.Duration) + "[" + strings.Join(r.OnEvents, ", ") + "]"
}

func idleDuration(seconds *int) string {
	switch {
	case seconds == nil:
		return "5m"
	case *seconds < 0:
		return "-"
	}
	return Duration(*seconds)
}

func secondsOrOff(seconds *int) string {
	if seconds == nil {
		return "off"
	}
	return Duration(*seconds)
}

// OffersTable is the table of offers of a run's plan.
func OffersTable(offers []api.Offer, total int) term.Table {
	t := term.Table{Columns: []term.Column{
		{Title: "#"}, {Title: "BACKEND"}, {Title: "RESOURCES", Wrap: true}, {Title: "INSTANCE TYPE"}, {Title: "PRICE"}, {},
	}}
	for i, o := range offers {
		name := o.Instance.Name
		if o.TotalBlocks > 1 {
			name += fmt.Sprintf(" (%d/%d)", o.Blocks, o.TotalBlocks)
		}
		style := term.Secondary
		if i == 0 {
			style = term.Plain
		}
		t.Rows = append(t.Rows, term.Row{Cells: styled(style,
			strconv.Itoa(i+1), Place(o.Backend, o.Region), Machine(o.Instance.Resources), name,
			Price(o.Price, 4), availability(o.Availability))})
	}
	if total > len(offers) {
		t.Rows = append(t.Rows, term.Row{Cells: styled(term.Secondary, "", "...")})
	}
	return t
}

// OffersFooter says how many offers there are if not all are shown, else
// nothing.
func OffersFooter(shown, total int, highest *float64) string {
	if total <= shown {
		return ""
	}
	note := fmt.Sprintf(" Shown %d of %d offers", shown, total)
	if highest != nil {
		note += ", " + Price(*highest, 4) + " max"
	}
	return note
}

func styled(style term.Style, texts ...string) []term.Cell {
	cells := make([]term.Cell, len(texts))
	for i, text := range texts {
		cells[i] = term.Cell{Text: text, Style: style}
	}
	return cells
}

func availability(a string) string {
	if a == "unknown" || a == "available" {
		return ""
	}
	return strings.ReplaceAll(a, "_", " ")
}

// FleetPlan is the header of a fleet's plan.
func FleetPlan(plan api.FleetPlan, path string) term.Table {
	spec := plan.Spec
	if plan.EffectiveSpec != nil {
		spec = *plan.EffectiveSpec
	}
	conf := spec.Configuration
	f := newFields()
	f.add("Project", plan.ProjectName)
	f.add("User", plan.User)
	f.add("Configuration", path)
	f.add("Type", "fleet")
	if conf.SSHConfig != nil {
		f.add("Fleet type", "ssh")
	} else {
		f.add("Fleet type", "cloud")
	}
	f.add("Nodes", FleetNodes(spec))
	placement := deref(conf.Placement)
	if placement == "" {
		placement = "any"
	}
	f.add("Placement", placement)
	if len(conf.Backends) > 0 {
		f.add("Backends", strings.Join(conf.Backends, ", "))
	}
	if len(conf.Regions) > 0 {
		f.add("Regions", strings.Join(conf.Regions, ", "))
	}
	if conf.SSHConfig == nil {
		if conf.Resources != nil {
			f.add("Resources", Requirements(*conf.Resources))
		}
		policy := deref(conf.SpotPolicy)
		if policy == "" {
			policy = "on-demand"
		}
		f.add("Spot policy", policy)
	}
	if conf.Reservation != nil {
		f.add("Reservation", *conf.Reservation)
	}
	return f.t
}
