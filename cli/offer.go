package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dstack/cli/render"
	"dstack/cli/term"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

type offerOptions struct {
	project string
	output  outputOptions
	groupBy []string
	run     runFlags
}

func (a *App) offerCommand() *cobra.Command {
	var o offerOptions
	cmd := &cobra.Command{
		Use: "offer", Short: "List machines and prices", Args: noArgs,
		Long: "List the machines that a run could get, with their prices. Fleets are ignored unless --fleet names some.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkExclusive(cmd); err != nil {
				return err
			}
			return a.offer(cmd, o)
		},
	}
	set := cmd.Flags()
	a.projectFlag(cmd, &o.project)
	o.output.define(set)
	set.StringArrayVar(&o.groupBy, "group-by", nil, "Group by gpu, backend, region, count; a list with commas, or given several times")
	a.completeFlag(cmd, "group-by", cobra.FixedCompletions(groupings, cobra.ShellCompDirectiveNoFileComp))
	all := section{set: set}
	o.run.defineOffers(all, 50)
	all.title = "Resources"
	o.run.defineResources(all)
	all.title = "Profile"
	o.run.defineProfile(all)
	a.completeRunFlags(cmd)
	return cmd
}

func (a *App) offer(cmd *cobra.Command, o offerOptions) error {
	groupBy, err := parseGroupBy(o.groupBy)
	if err != nil {
		return err
	}
	spec, err := a.offerSpec(cmd, &o.run)
	if err != nil {
		return err
	}
	s, err := a.connect(o.project)
	if err != nil {
		return err
	}
	if groupBy != nil {
		return a.offerGroups(cmd.Context(), s, o, spec, groupBy)
	}
	return a.offerList(cmd.Context(), s, o, spec)
}

// offerSpec is a task that would run anywhere; only its requirements count.
func (a *App) offerSpec(cmd *cobra.Command, flags *runFlags) (api.RunSpec, error) {
	task, err := parseField(map[string]any{
		"image": "scratch", "user": "root",
		"resources": map[string]any{"cpu": "1..", "memory": "0GB..", "gpu": "0..", "disk": nil},
	})
	if err != nil {
		return api.RunSpec{}, err
	}
	if err := flags.replace(cmd, runFields{&task.Resources, &task.ProfileParams}); err != nil {
		return api.RunSpec{}, err
	}
	profile, err := a.profile(flags.profile, flags.noProfile)
	return api.RunSpec{Configuration: config.Run{Task: task}, Profile: &profile}, err
}

// wanted are the requirements as the client knows them.
func wanted(spec api.RunSpec) render.Wanted {
	params := spec.Params()
	w := render.Wanted{Resources: spec.Configuration.Task.Resources, MaxPrice: params.MaxPrice, Reservation: params.Reservation}
	if policy := deref(params.SpotPolicy); policy == "spot" || policy == "on-demand" {
		spot := policy == "spot"
		w.Spot = &spot
	}
	return w
}

func (a *App) offerList(ctx context.Context, s *session, o offerOptions, spec api.RunSpec) error {
	live := a.Live()
	live.Show("Getting offers...", "")
	plan, err := s.PlanRun(ctx, api.GetRunPlanRequest{
		RunSpec: spec, MaxOffers: &o.run.maxOffers, FullOffers: o.run.fullOffers, UnallocatedResources: o.run.unallocated, ForOffersOnly: true,
	})
	live.Clear()
	if err != nil {
		return err
	}
	var job api.JobPlan
	if len(plan.JobPlans) > 0 {
		job = plan.JobPlans[0]
	}
	if o.output.wantsJSON() {
		return a.printJSON(struct {
			Project      string        `json:"project"`
			User         string        `json:"user"`
			Requirements render.Wanted `json:"requirements"`
			Offers       []api.Offer   `json:"offers"`
			TotalOffers  int           `json:"total_offers"`
			Warnings     []string      `json:"warnings,omitempty"`
		}{plan.ProjectName, plan.User, wanted(spec), nonNil(job.Offers), job.TotalOffers, plan.Warnings})
	}
	a.write(a.Render(render.OfferHeader(plan.ProjectName, job.JobSpec.Requirements)) + "\n")
	hint := ""
	if len(o.run.fleets) == 0 && len(job.Offers) > 0 {
		hint = a.Paint(term.Secondary, offerHint)
	}
	if hint != "" && len(job.Offers) < hintBelow {
		a.Print(hint + "\n")
		hint = ""
	}
	a.printOffers(job.Offers, job.TotalOffers, job.MaxPrice)
	a.printWarnings(plan.Warnings)
	if hint != "" {
		a.Print(hint)
	}
	return nil
}

const (
	offerHint = "Hint: Existing fleets are ignored, and all available offers are shown. To filter by fleet, pass --fleet NAME."
	// hintBelow is the number of rows from which the hint stands below them.
	hintBelow = 3
)

// groupings are what offers can be grouped by.
var groupings = []string{"backend", "count", "gpu", "region"}

// parseGroupBy reads --group-by; nil if it was not given.
func parseGroupBy(values []string) ([]string, error) {
	var all []string
	for _, value := range values {
		for _, one := range strings.Split(value, ",") {
			one = strings.TrimSpace(one)
			if !slices.Contains(groupings, one) {
				return nil, sentence("Invalid group-by value: '%s'. Valid choices are: %s", one, strings.Join(groupings, ", "))
			}
			if !slices.Contains(all, one) {
				all = append(all, one)
			}
		}
	}
	for _, one := range all {
		switch {
		case !slices.Contains(all, "gpu"):
			return nil, sentence("Cannot group by '%s' without also grouping by 'gpu'", one)
		case one == "region" && !slices.Contains(all, "backend"):
			return nil, sentence("Cannot group by 'region' without also grouping by 'backend'")
		}
	}
	return all, nil
}

func (a *App) offerGroups(ctx context.Context, s *session, o offerOptions, spec api.RunSpec, groupBy []string) error {
	others := slices.DeleteFunc(slices.Clone(groupBy), func(g string) bool { return g == "gpu" })
	answer, err := s.ListGPUs(ctx, api.ListGPUsRequest{
		RunSpec: spec, GroupBy: others, FullOffers: o.run.fullOffers, UnallocatedResources: o.run.unallocated,
	})
	if err != nil {
		return err
	}
	w := wanted(spec)
	if o.output.wantsJSON() {
		return a.printJSON(struct {
			Project      string         `json:"project"`
			Requirements render.Wanted  `json:"requirements"`
			GroupBy      []string       `json:"group_by"`
			GPUs         []api.GPUGroup `json:"gpus"`
		}{s.project, w, groupBy, nonNil(answer.GPUs)})
	}
	a.write(a.Render(render.GPUsHeader(s.project, w, groupBy)) + "\n")
	a.write(a.Render(render.GPUsTable(answer.GPUs)))
	return nil
}
