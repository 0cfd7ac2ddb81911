package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"dstack/cli/render"
	"dstack/cli/term"
	"dstack/cli/tunnel"
	"dstack/client"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

func (a *App) applyRun(ctx context.Context, cmd *cobra.Command, s *session, o applyOptions, run config.Run, path string, args []string) error {
	spec, err := a.runSpec(ctx, cmd, o, run, path, args)
	if err != nil {
		return err
	}
	src, err := a.addSources(ctx, s, o.run, o.verbose, &spec, path)
	if err != nil {
		return err
	}
	defer src.close()
	plan, err := a.planRun(ctx, s, o, spec)
	if err != nil {
		return err
	}
	if err := a.showPlan(ctx, s, o, plan); err != nil {
		return err
	}
	override, err := a.agreeOnRun(ctx, o, plan)
	if err != nil {
		return err
	}
	if override {
		if err := a.stopCurrent(ctx, s, *plan.CurrentResource); err != nil {
			return err
		}
	}
	current := plan.CurrentResource
	if override || (current != nil && current.Status.Finished()) {
		current = nil
	}
	attach := attachOptions{wanted: !o.detach, host: o.run.host, reachFlags: reachFlags{identity: o.run.sshIdentity}}
	if attach.ports, err = a.holdPorts(ctx, s, o, plan); err != nil {
		return err
	}
	submitted, err := a.submitRun(ctx, s, o, src, plan, current)
	if err != nil {
		return errors.Join(err, attach.release())
	}
	if o.detach {
		verb := "submitted"
		if current != nil {
			verb = "updated"
		}
		a.Printf("Run %s %s, detaching...", runName(submitted), verb)
		return nil
	}
	return a.follow(ctx, s, submitted, o.yes, attach)
}

func (a *App) submitRun(ctx context.Context, s *session, o applyOptions, src *sources, plan api.RunPlan, current *api.Run) (api.Run, error) {
	if err := src.upload(ctx, s); err != nil {
		return api.Run{}, err
	}
	return s.ApplyRun(ctx, api.ApplyRunPlanRequest{
		Plan:  api.ApplyRunPlanInput{RunSpec: plan.RunSpec, CurrentResource: current},
		Force: o.force,
	})
}

// holdPorts takes the local ports for the first job of a run that is about to
// be submitted, so that nobody else gets them meanwhile.
func (a *App) holdPorts(ctx context.Context, s *session, o applyOptions, plan api.RunPlan) (*tunnel.Listeners, error) {
	if o.detach || len(plan.JobPlans) == 0 {
		return nil, nil
	}
	spec := plan.JobPlans[0].JobSpec
	wants, err := wantedPorts(spec, nil)
	if err != nil {
		return nil, err
	}
	job := jobOnServer{Server: s.BaseURL()}
	if current := plan.CurrentResource; current != nil && plan.Action == "update" {
		job.RunID = current.ID
	}
	ports, err := a.takePorts(ctx, o.run.host, wants, job)
	if err == nil && isLoopback(s.host()) {
		// The job may run on this machine and need the ports itself: that
		// they are free is enough for now.
		return nil, ports.Close() //nolint:wrapcheck // says what it is
	}
	return ports, portFault(err, "submit", "apply", wants)
}

// runSpec makes what is submitted out of the file, the options and the
// environment.
func (a *App) runSpec(ctx context.Context, cmd *cobra.Command, o applyOptions, run config.Run, path string, args []string) (api.RunSpec, error) {
	var spec api.RunSpec
	if err := o.run.applyTo(cmd, run); err != nil {
		return spec, err
	}
	if o.run.repo != "" && o.run.noRepo {
		return spec, sentence("Either --repo or --no-repo can be specified")
	}
	for _, option := range o.run.env {
		if _, _, err := config.ParseEnv(option); err != nil {
			return spec, argumentError(cmd, "env", "invalid env_var value: '%s'", option)
		}
	}
	base := run.Base()
	env, err := a.resolveEnv(base.Env, o.run.env)
	if err != nil {
		return spec, err
	}
	base.Env = env
	if err := run.InterpolateRun(shellJoin(args)); err != nil {
		return spec, fmt.Errorf("%s: %w", path, err)
	}
	if dir := deref(base.WorkingDir); dir != "" && !filepath.IsAbs(dir) && !strings.HasPrefix(dir, "~") {
		return spec, sentence("working_dir must be absolute")
	}
	if o.run.sshIdentity != "" {
		public, _, err := readKey(o.run.sshIdentity, a.env.Home)
		if err != nil {
			return spec, err
		}
		spec.SSHKeyPub = &public
	}
	profile, err := a.profile(o.run.profile, o.run.noProfile)
	if err != nil {
		return spec, err
	}
	if run.DevEnvironment != nil {
		a.detectIDE(ctx, run.DevEnvironment)
	}
	spec.RunName, spec.ConfigurationPath = base.Name, &path
	spec.Configuration, spec.Profile = run, &profile
	return spec, nil
}

func (a *App) planRun(ctx context.Context, s *session, o applyOptions, spec api.RunSpec) (api.RunPlan, error) {
	live := a.Live()
	live.Show("Getting apply plan...", "")
	defer live.Clear()
	return s.PlanRun(ctx, api.GetRunPlanRequest{
		RunSpec: spec, MaxOffers: &o.run.maxOffers,
		FullOffers: o.run.fullOffers, UnallocatedResources: o.run.unallocated,
	})
}

// showPlan prints the header, the offers of the first job, and warnings.
func (a *App) showPlan(ctx context.Context, s *session, o applyOptions, plan api.RunPlan) error {
	a.write(a.Render(render.RunPlan(plan, o.verbose)) + "\n")
	if len(plan.JobPlans) > 0 && len(plan.JobPlans[0].Offers) > 0 {
		first := plan.JobPlans[0]
		a.printOffers(first.Offers, first.TotalOffers, first.MaxPrice)
	} else {
		fleets, err := s.ListFleets(ctx)
		if err != nil {
			return err
		}
		switch {
		case len(fleets) == 0:
			a.Print(a.Paint(term.Error, noFleets) + "\n")
		case len(plan.Warnings) > 0: // they say why
			a.Print(a.Paint(term.Warning, "No matching instance offers available."))
		default:
			a.printOffers(nil, 0, nil)
		}
	}
	a.printWarnings(plan.Warnings)
	return nil
}

// printWarnings prints what a plan warns of, and an empty line below.
func (a *App) printWarnings(all []string) {
	for _, warning := range all {
		a.Print(a.Paint(term.Warning, "Warning: "+warning))
	}
	if len(all) > 0 {
		a.Print("")
	}
}

const noFleets = "The project has no fleets. Create one before submitting a run.\nSee https://dstack.ai/docs/guides/troubleshooting/#no-fleets"

// agreeOnRun says what applying does to a run of the same name and asks. It
// answers whether that run has to be stopped first.
func (a *App) agreeOnRun(ctx context.Context, o applyOptions, plan api.RunPlan) (override bool, err error) {
	name := deref(plan.RunSpec.RunName)
	question := "Submit a new run?"
	if name != "" {
		question = "Submit the run " + name + "?"
	}
	if current := plan.CurrentResource; current != nil && !current.Status.Finished() {
		effective := plan.RunSpec
		if plan.EffectiveRunSpec != nil {
			effective = *plan.EffectiveRunSpec
		}
		changes := render.RunChanges(current.RunSpec, effective)
		switch {
		case plan.Action == "update" && changes == nil:
			a.Printf("Active run %s already exists. Detected no changes.", name)
			if o.yes && !o.force {
				a.Print("Use --force to apply anyway.")
				return false, exitError{exitOK}
			}
			question, override = "Stop and override the run?", true
		case plan.Action == "update":
			a.Printf("Active run %s already exists. Detected changes that can be updated in-place:", name)
			question = "Update the run?"
		default:
			a.Printf("Active run %s already exists. Detected changes that cannot be updated in-place:", name)
			question, override = "Stop and override the run?", true
		}
		for _, line := range changes {
			a.Print(line)
		}
		a.Print("")
	}
	if o.yes {
		return override, nil
	}
	return override, a.confirmOrExit(ctx, question)
}

// stopCurrent stops a run that is in the way and waits for its end.
func (a *App) stopCurrent(ctx context.Context, s *session, run api.Run) error {
	if err := s.StopRuns(ctx, []string{runName(run)}, false); err != nil {
		return err
	}
	live := a.Live()
	defer live.Clear()
	pressed, release := a.Interrupts.Capture()
	defer release()
	return a.poll(ctx, live, pressed, func() (bool, error) {
		latest, err := s.GetRunByID(ctx, run.ID)
		if client.IsNotExist(err) {
			return true, nil
		}
		if err != nil {
			return true, err
		}
		live.Show("Stopping run...", a.Render(render.RunsTable([]api.Run{latest}, false, render.Clock)))
		return latest.Status.Finished(), nil
	}, func() error { return term.ErrInterrupted })
}

func capitalize(text string) string {
	if text == "" {
		return ""
	}
	runes := []rune(text)
	runes[0] = unicode.ToUpper(runes[0])
	return string(runes)
}
