package cli

import (
	"context"
	"slices"
	"time"

	"dstack/cli/render"
	"dstack/cli/term"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

func (a *App) applyFleet(ctx context.Context, s *session, o applyOptions, conf config.Fleet, path string) error {
	if err := a.prepareFleet(&conf, o.run); err != nil {
		return err
	}
	spec := api.FleetSpec{Configuration: conf, ConfigurationPath: &path}
	profile, err := a.loadProfile(config.ProfileChoice{})
	if err != nil {
		return err
	}
	spec.Profile = profile
	plan, err := s.PlanFleet(ctx, spec)
	if err != nil {
		return err
	}
	a.write(a.Render(render.FleetPlan(plan, path)) + "\n")
	if conf.SSHConfig == nil {
		a.printOffers(plan.Offers[:min(len(plan.Offers), fleetOffers)], plan.TotalOffers, plan.MaxOfferPrice)
	}
	a.printWarnings(plan.Warnings)
	recreate, err := a.agreeOnFleet(ctx, o, plan)
	if err != nil {
		return err
	}
	if recreate {
		if err := a.deleteFleet(ctx, s, *plan.CurrentResource); err != nil {
			return err
		}
		plan.CurrentResource = nil
	}
	fleet, err := s.ApplyFleet(ctx, api.ApplyFleetPlanRequest{
		Plan:  api.ApplyFleetPlanInput{Spec: plan.Spec, CurrentResource: plan.CurrentResource},
		Force: o.force,
	})
	if err != nil {
		return err
	}
	if o.detach {
		a.Print("Fleet configuration submitted. Exiting...")
		return nil
	}
	return a.awaitProvisioning(ctx, s, fleet, o.yes)
}

// fleetOffers is how many offers a fleet's plan shows.
const fleetOffers = 3

// prepareFleet applies options, takes variables from the environment and
// reads the keys that the configuration names.
func (a *App) prepareFleet(conf *config.Fleet, flags runFlags) error {
	if flags.name != "" {
		conf.Name = &flags.name
	}
	if len(flags.env) > 0 && conf.SSHConfig == nil {
		return sentence("`env` is currently supported for SSH fleets only")
	}
	env, err := a.resolveEnv(conf.Env, flags.env)
	if err != nil {
		return err
	}
	conf.Env = env
	if conf.SSHConfig == nil {
		return nil
	}
	keys := conf.SSHConfig
	if keys.SSHKey, err = a.fleetKey(keys.IdentityFile, keys.SSHKey); err != nil {
		return err
	}
	if keys.ProxyJump, err = a.proxyKey(keys.ProxyJump); err != nil {
		return err
	}
	keys.Hosts = slices.Clone(keys.Hosts)
	for i := range keys.Hosts {
		host := &keys.Hosts[i]
		if host.SSHKey, err = a.fleetKey(host.IdentityFile, host.SSHKey); err != nil {
			return err
		}
		if host.ProxyJump, err = a.proxyKey(host.ProxyJump); err != nil {
			return err
		}
	}
	return nil
}

func (a *App) fleetKey(file *string, given *config.SSHKey) (*config.SSHKey, error) {
	if file == nil {
		return given, nil
	}
	public, private, err := readKey(*file, a.env.Home)
	if err != nil {
		return nil, err
	}
	a.log.redact(private)
	return &config.SSHKey{Public: public, Private: &private}, nil
}

func (a *App) proxyKey(proxy *config.SSHProxy) (*config.SSHProxy, error) {
	if proxy == nil {
		return nil, nil
	}
	with := *proxy
	key, err := a.fleetKey(proxy.IdentityFile, proxy.SSHKey)
	with.SSHKey = key
	return &with, err
}

// agreeOnFleet says what applying would do and asks. It answers whether the
// fleet has to be deleted and made anew.
func (a *App) agreeOnFleet(ctx context.Context, o applyOptions, plan api.FleetPlan) (recreate bool, err error) {
	name := deref(plan.Spec.Configuration.Name)
	current := plan.CurrentResource
	question := "Create the fleet?"
	if current == nil {
		if name == "" {
			a.Print("The fleet gets a generated name.")
		} else {
			a.Printf("Fleet %s does not exist yet.", name)
		}
	} else {
		effective := plan.Spec
		if plan.EffectiveSpec != nil {
			effective = *plan.EffectiveSpec
		}
		changes := render.FleetChanges(current.Spec, effective)
		switch {
		case changes == nil && o.yes && !o.force:
			a.Print("No configuration changes detected. Use --force to apply anyway.")
			return false, exitError{exitOK}
		case changes == nil:
			a.Printf("Found fleet %s. No configuration changes detected.", name)
			question, recreate = "Re-create the fleet?", true
		case plan.Action == "update":
			a.Printf("Found fleet %s. Detected changes that can be updated in-place:", name)
			question = "Update the fleet in-place?"
		default:
			a.Printf("Found fleet %s. Detected changes that cannot be updated in-place:", name)
			question, recreate = "Re-create the fleet?", true
		}
		for _, line := range changes {
			a.Print(line)
		}
	}
	if o.yes {
		return recreate, nil
	}
	return recreate, a.confirmOrExit(ctx, question)
}

// awaitProvisioning shows a fleet until each of its hosts is ready or has
// failed. Ctrl-C offers to delete the fleet.
func (a *App) awaitProvisioning(ctx context.Context, s *session, fleet api.Fleet, yes bool) error {
	pressed, release := a.Interrupts.Capture()
	defer release()
	live := a.Live()
	defer live.Clear()
	started := a.env.Now()
	look := func() (bool, error) {
		latest, err := s.GetFleetByID(ctx, fleet.ID)
		if err != nil {
			return true, err
		}
		fleet = latest
		live.Show("Provisioning "+fleet.Name+"...", a.fleetTable(s, fleet))
		return provisioned(fleet, a.env.Now().Sub(started) >= problemGrace), nil
	}
	err := a.poll(ctx, live, pressed, look, func() error {
		live.Clear()
		if !yes {
			if ok, err := a.confirm(ctx, "Delete the fleet before exiting?"); err != nil {
				return err
			} else if ok {
				return cmpErr(a.deleteFleet(ctx, s, fleet), exitError{exitOK})
			}
		}
		a.Print("Exiting... Fleet provisioning will continue in the background.")
		return exitError{exitOK}
	})
	if err != nil {
		return err
	}
	live.Clear()
	a.write(a.fleetTable(s, fleet))
	return a.judgeFleet(fleet)
}

func (a *App) fleetTable(s *session, fleet api.Fleet) string {
	return a.Render(render.FleetsTable([]api.Fleet{fleet}, s.project, false, render.Clock))
}

// problemGrace is how long apply watches a host that has a problem: it may go
// away, and the server goes on trying.
const problemGrace = 20 * time.Second

// provisioned says whether no host is on its way any more. If impatient, it
// does not wait for hosts with a problem.
func provisioned(fleet api.Fleet, impatient bool) bool {
	for _, i := range fleet.Instances {
		switch i.Status {
		case api.InstancePending, api.InstanceProvisioning:
			if deref(i.TerminationReasonMessage) == "" || !impatient {
				return false
			}
		case api.InstanceTerminating:
			return false
		}
	}
	return true
}

// judgeFleet ends with exit code 1 if a host failed or is still in trouble.
func (a *App) judgeFleet(fleet api.Fleet) error {
	failed, trying := false, false
	for _, i := range fleet.Instances {
		switch i.Status {
		case api.InstanceTerminated:
			failed = true
		case api.InstancePending, api.InstanceProvisioning:
			trying = true
		}
	}
	switch {
	case trying:
		a.fail("error", "Some hosts can't be used yet. See above for the reasons. The server goes on trying; watch it with: dstack fleet -w")
	case failed:
		a.fail("error", "Some instances failed. Check the table above for errors.")
	default:
		return nil
	}
	return exitError{exitFailed}
}

// printOffers shows offers, or says that there are none.
func (a *App) printOffers(offers []api.Offer, total int, highest *float64) {
	if len(offers) > 0 {
		a.write(a.Render(render.OffersTable(offers, total)))
		if note := render.OffersFooter(len(offers), total, highest); note != "" {
			a.Print(a.Paint(term.Secondary, note))
		}
		a.Print("")
		return
	}
	a.Print(a.Paint(term.Warning, noOffers) + "\n")
}

const noOffers = "No matching instance offers available. Possible reasons: https://dstack.ai/docs/guides/troubleshooting/#no-offers"

// cmpErr is the first error that is not nil.
func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
