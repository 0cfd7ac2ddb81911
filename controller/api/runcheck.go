package api

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"dstack/controller/engine/jobspec"
	"dstack/protocol/accelerator"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// RunLimits are the server's settings that runs are checked against.
type RunLimits struct {
	// MetricsWindow is how many seconds the metrics of running jobs are kept.
	MetricsWindow int
	// MaxProbes bounds the probes of a job, MaxProbeTimeout their seconds.
	MaxProbes, MaxProbeTimeout int
	// ForbidDstack refuses `dstack: true`.
	ForbidDstack bool
	// ForbidNoGateway refuses services without a gateway.
	ForbidNoGateway bool
}

// mostJobs bounds the jobs of a run: each takes memory as soon as it is planned.
const mostJobs = 1000

// checkSize refuses a run with too many jobs. A group counts even if it is to
// have none at first: a plan is made for it.
func checkSize(c config.Run) error {
	sizes := []int{}
	switch {
	case c.Task != nil && c.Task.Groups != nil:
		for _, g := range c.Task.Groups {
			sizes = append(sizes, g.Nodes)
		}
	case c.Task != nil:
		sizes = append(sizes, deref(c.Task.Nodes, 1))
	case c.Service != nil:
		for _, g := range jobspec.ReplicaGroups(c) {
			sizes = append(sizes, g.Min)
		}
	}
	left := mostJobs
	for _, n := range sizes {
		if n > left || left == 0 {
			return refuse("A run may have %d jobs at most", mostJobs)
		}
		left -= max(n, 1)
	}
	return nil
}

// checkRun applies the rules of spec configuration.md 10.1 that need no rows.
func checkRun(s *api.RunSpec, limits RunLimits) error {
	if s.RunName != nil {
		if err := checkName(*s.RunName); err != nil {
			return err
		}
	}
	if err := checkSize(s.Configuration); err != nil {
		return err
	}
	base, params := s.Configuration.Base(), s.Params()
	if unset := base.Env.Sentinels(); len(unset) > 0 {
		return refuse("env: %s has no value: the client has to fill it in", unset[0])
	}
	switch p := params.UtilizationPolicy; {
	case params.Retry != nil && deref(params.Retry.Duration, 0) < 0:
		return refuse("retry.duration cannot be negative")
	case p != nil && p.TimeWindow > limits.MetricsWindow:
		return refuse("Maximum utilization_policy.time_window is %ds", limits.MetricsWindow)
	case base.Dstack && limits.ForbidDstack:
		return refuse("This server forbids `dstack: true` in runs")
	}
	if err := checkService(s.Configuration.Service, params, limits); err != nil {
		return err
	}
	if err := checkMentions(s.Configuration); err != nil {
		return err
	}
	return checkHardware(s.Configuration)
}

func checkService(s *config.Service, params config.ProfileParams, limits RunLimits) error {
	if s == nil {
		return nil
	}
	awake := slices.ContainsFunc(jobspec.ReplicaGroups(config.Run{Service: s}), func(g jobspec.ReplicaGroup) bool { return g.Min > 0 })
	if params.Schedule != nil && !awake {
		return refuse("Scheduled services with autoscaling to zero are not supported")
	}
	if len(s.Probes) > limits.MaxProbes {
		return refuse("Cannot configure more than %d probes", limits.MaxProbes)
	}
	for _, p := range s.Probes {
		if deref(p.Timeout, 0) > limits.MaxProbeTimeout {
			return refuse("Probe timeout cannot be longer than %ds", limits.MaxProbeTimeout)
		}
	}
	return nil
}

var (
	// groupMention is where a text speaks of another job.
	groupMention = regexp.MustCompile(`\$\{\{\s*(groups\b.*?)\s*\}\}`)
	// groupAddress is how it has to do that.
	groupAddress = regexp.MustCompile(`^groups\[(\d+)\]\.(nodes|replicas)\[(\d+)\]\.IP_ADDRESS$`)
)

// checkMentions demands that commands mention jobs that exist, and that env
// mentions none.
func checkMentions(c config.Run) error {
	for _, v := range c.Base().Env {
		if groupMention.MatchString(v.Value) {
			return refuse("groups IP references are only supported in commands, not in `env`")
		}
	}
	kind, sizes, commands := "nodes", []int{1}, [][]string(nil)
	switch {
	case c.Task != nil:
		sizes[0], commands = deref(c.Task.Nodes, 1), append(commands, c.Task.Commands)
		if c.Task.Groups != nil {
			sizes = nil
		}
		for _, g := range c.Task.Groups {
			sizes, commands = append(sizes, g.Nodes), append(commands, g.Commands)
		}
	case c.Service != nil:
		kind, sizes, commands = "replicas", nil, append(commands, c.Service.Commands)
		for _, g := range jobspec.ReplicaGroups(c) {
			sizes = append(sizes, g.Min)
		}
		for _, g := range c.Service.Groups {
			commands = append(commands, g.Commands)
		}
	}
	for _, line := range slices.Concat(commands...) {
		for _, m := range groupMention.FindAllStringSubmatch(line, -1) {
			if err := checkMention(m[1], kind, sizes); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkMention(name, kind string, sizes []int) error {
	m := groupAddress.FindStringSubmatch(name)
	if m == nil || m[2] != kind {
		return refuse("Illegal reference name: %s", name)
	}
	group, errGroup := strconv.Atoi(m[1])
	member, errMember := strconv.Atoi(m[3])
	if errGroup != nil || errMember != nil || group >= len(sizes) || member >= sizes[group] {
		return refuse("Invalid reference %s: out of range", name)
	}
	return nil
}

// member is a group of a run, or the run if it has no groups.
type member struct {
	base    config.RunBase
	grouped bool
}

func members(c config.Run) []member {
	var out []member
	switch {
	case c.Task != nil && c.Task.Groups != nil:
		for _, g := range c.Task.Groups {
			base := c.Task.RunBase
			base.Resources = g.Resources
			out = append(out, member{base, true})
		}
	case c.Service != nil && c.Service.Groups != nil:
		for _, g := range c.Service.Groups {
			out = append(out, member{g.Over(c.Service.RunBase), true})
		}
	default:
		out = append(out, member{base: *c.Base()})
	}
	return out
}

// checkHardware demands an image where the default one cannot be right.
func checkHardware(c config.Run) error {
	var foreign, arm, armDocker []int
	var vendors []string
	list := members(c)
	for i := range list {
		base := &list[i].base
		if odd := oddVendors(base); len(odd) > 0 && !hasImage(base) {
			foreign, vendors = append(foreign, i), append(vendors, odd...)
		}
		switch {
		case deref(base.Resources.CPU.Arch, "") != config.ArchARM:
		case deref(base.Docker, false):
			armDocker = append(armDocker, i)
		case deref(base.Image, "") == "":
			arm = append(arm, i)
		}
	}
	where := func(which []int) string {
		if !list[0].grouped {
			return ""
		}
		return "groups[" + joinInts(which) + "]: "
	}
	switch {
	case len(foreign) > 0:
		slices.Sort(vendors)
		return refuse("%s`image` must be set when the requested accelerator is not supported by the default image: ['%s']",
			where(foreign), strings.Join(slices.Compact(vendors), "', '"))
	case len(armDocker) > 0:
		return refuse("%s`docker: true` is not supported on ARM CPU", where(armDocker))
	case len(arm) > 0:
		return refuse("%s`image` must be set when ARM CPU requested", where(arm))
	}
	return nil
}

func joinInts(list []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ", "), "[]")
}

// oddVendors are the vendors that are asked for and that the default image
// does not support.
func oddVendors(base *config.RunBase) []string {
	g := base.Resources.GPU
	if g == nil || g.Count.Max != nil && *g.Count.Max == 0 {
		return nil
	}
	asked := []string{deref(g.Vendor, "")}
	for _, name := range g.Name {
		asked = append(asked, accelerator.VendorOf(name))
	}
	return slices.DeleteFunc(asked, func(v string) bool {
		return v == "" || v == config.VendorNvidia || v == config.VendorGoogle
	})
}
