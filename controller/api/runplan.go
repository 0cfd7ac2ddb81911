package api

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"dstack/controller/engine/jobspec"
	"dstack/controller/market"
	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
)

const (
	defaultOffers = 50
	// noImage is an image that is never looked up: the plan is about offers.
	noImage = "scratch"
)

// registryHold is how long a plan holds that depends on image registries.
const registryHold = 10 * time.Second

// planRun answers with the plan; it is live if it shows a run that is.
func (a *API) planRun(ctx context.Context, c call, in api.GetRunPlanRequest) (reply[api.RunPlan], error) {
	none := reply[api.RunPlan]{}
	oldOffers(c.version, &in)
	if err := a.needKey(ctx, &c, &in.RunSpec); err != nil {
		return none, err
	}
	spec, err := effectiveRun(in.RunSpec, &c.User, a.deps.Limits)
	if err != nil {
		return none, err
	}
	oldWorkingDir(c.version, &spec)
	jobs, err := jobspec.Build(named(spec), nil, a.deps.Jobs)
	if err != nil {
		return none, refuse("%v", err)
	}
	if err := a.checkVolumes(ctx, c, jobs); err != nil {
		return none, err
	}
	plan := api.RunPlan{
		ProjectName: c.Project.Name, User: c.User.Name, RunSpec: withNodes(c.version, in.RunSpec), EffectiveRunSpec: &spec,
		Action: actionCreate, Warnings: []string{},
	}
	goods, err := a.stock(ctx, c.Project.ID)
	if err != nil {
		return none, err
	}
	var pools []offers.Pool
	err = a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		var err error
		if plan.Warnings, err = secretWarnings(tx, c, jobs); err != nil {
			return err
		}
		if pools, err = offers.Load(tx, c.Project); err != nil {
			return err
		}
		return a.planAction(tx, c, &plan)
	})
	if err != nil {
		return none, err
	}
	disks, err := a.loadVolumes(ctx, c, jobs)
	if err != nil {
		return none, err
	}
	found := a.planJobs(ctx, c, &plan, jobs, disks, in, pools, goods)
	var (
		heard []string
		asked bool
	)
	if !in.ForOffersOnly { // else nothing is to run there
		heard, asked = a.placeWarnings(ctx, jobs, found.matches, len(found.rentals) > 0)
	}
	plan.Warnings = distinct(slices.Concat(plan.Warnings, heard, goods.Missing(), refusals(found.rentals, goods.Missing()), oldPrices(found.rentals, a.deps.Now())))
	out := reply[api.RunPlan]{value: plan, live: plan.CurrentResource != nil && !plan.CurrentResource.Status.Finished() || len(goods.Missing()) > 0}
	if asked {
		out.hold = registryHold
	}
	if len(goods) > 0 {
		out.hold = stockHold
	}
	return out, nil
}

// finds is what was found for the jobs of a plan.
type finds struct {
	matches []offers.Match
	rentals []offers.Rental
}

// planJobs adds the jobs with their offers to a plan, and why there are none.
func (a *API) planJobs(
	ctx context.Context, c call, plan *api.RunPlan, jobs []api.JobSpec, disks []*offers.Volumes, in api.GetRunPlanRequest,
	pools []offers.Pool, goods market.Goods,
) finds {
	var (
		out    finds
		last   offers.Request
		result offers.Result
		list   []api.Offer
	)
	for n, job := range jobs {
		req := a.offersRequest(c, plan.EffectiveRunSpec, job)
		req.All, req.Volumes = in.ForOffersOnly, disks[n].Free()
		if n == 0 || !reflect.DeepEqual(req, last) {
			last, result = req, a.search(ctx, c.Project.ID, req, pools, goods)
			list = result.Offers(req.All)
			out.matches = append(out.matches, result.Matches(req.All)...)
			out.rentals = append(out.rentals, result.Rentals(req.All)...)
		}
		plan.JobPlans = append(plan.JobPlans, jobPlan(job, slices.Clone(list), in))
		if why := result.Explain(); len(list) == 0 && why != "" {
			plan.Warnings = append(plan.Warnings, "No offers: "+why)
		}
	}
	return out
}

// oldOffers heeds how clients before 0.21.0 ask for offers only.
func oldOffers(v clientVersion, in *api.GetRunPlanRequest) {
	t := in.RunSpec.Configuration.Task
	if v.before(0, 21, 0) && t != nil && len(t.Commands) == 1 && t.Commands[0] == ":" {
		in.ForOffersOnly = true
	}
}

// named gives a run without a name one for the plan.
func named(s api.RunSpec) api.RunSpec {
	if s.RunName == nil {
		s.RunName = new("dry-run")
	}
	return s
}

// planAction finds the run that has the name now and says what applying does.
func (a *API) planAction(tx *store.Tx, c call, plan *api.RunPlan) error {
	name := plan.EffectiveRunSpec.RunName
	if name == nil {
		return nil
	}
	current, err := tx.RunByName(c.Project.ID, *name)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find run: %w", err)
	}
	view, err := a.oneRunView(tx, current)
	if err != nil {
		return err
	}
	plan.CurrentResource = &view
	if _, err := diffRun(&current.Spec, plan.EffectiveRunSpec); err == nil && !current.Status.Finished() {
		plan.Action = actionUpdate
	}
	return nil
}

func (a *API) offersRequest(c call, spec *api.RunSpec, job api.JobSpec) offers.Request {
	req := offers.Request{
		Requirements: job.Requirements, Profile: spec.Params(), Nodes: job.JobsPerReplica,
		NoLocal: !a.deps.LocalShared && !a.deps.Policy.IsAdmin(&c.User),
	}
	if spec.Configuration.Service != nil {
		for _, g := range jobspec.ReplicaGroups(spec.Configuration) {
			req.Need += g.Min
		}
	}
	return req
}

func jobPlan(job api.JobSpec, list []api.Offer, in api.GetRunPlanRequest) api.JobPlan {
	if in.ReverseOffers {
		slices.SortStableFunc(list, func(x, y api.Offer) int {
			if c := cmp.Compare(availabilityOrder(x), availabilityOrder(y)); c != 0 {
				return c
			}
			return compareDown(x.Price, y.Price)
		})
	}
	p := api.JobPlan{JobSpec: job, TotalOffers: len(list)}
	for i := range list {
		if p.MaxPrice == nil || list[i].Price > *p.MaxPrice {
			p.MaxPrice = &list[i].Price
		}
	}
	p.Offers = list[:min(len(list), deref(in.MaxOffers, defaultOffers))]
	return p
}

// availabilityOrder sorts what is available first.
func availabilityOrder(o api.Offer) int {
	return unavailable([]string{o.Availability})
}

func compareDown(x, y float64) int {
	switch {
	case x > y:
		return -1
	case x < y:
		return 1
	}
	return 0
}

// placeWarnings say what the user should know of where the jobs would run;
// docker says that some would in any case have Docker, asked that registries
// were.
func (a *API) placeWarnings(ctx context.Context, jobs []api.JobSpec, found []offers.Match, docker bool) (out []string, asked bool) {
	for _, m := range found {
		in := m.Instance
		if in.Info == nil || in.Info.Runtime != hostapi.Process {
			docker = true
			continue
		}
		out = append(out, fmt.Sprintf("Host %s has no Docker: jobs run there as plain processes with no isolation, "+
			"and `image` is ignored", in.Name))
	}
	if !docker {
		return out, false
	}
	for _, job := range jobs {
		if job.ImageName == noImage {
			continue
		}
		if err := a.deps.Registries.Reachable(ctx, job.ImageName); err != nil {
			out = append(out, fmt.Sprintf("The registry of image %s cannot be reached from the server (%v): "+
				"the job starts only on a host that has the image or reaches the registry itself", job.ImageName, err))
		}
	}
	return out, true
}
