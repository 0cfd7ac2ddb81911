package cli

import (
	"context"

	"dstack/cli/render"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// applyGateway creates, updates or re-creates a gateway.
func (a *App) applyGateway(ctx context.Context, s *session, o applyOptions, conf config.Gateway, path string) error {
	if o.run.name != "" {
		conf.Name = &o.run.name
	}
	plan, err := s.PlanGateway(ctx, api.GatewaySpec{Configuration: conf, ConfigurationPath: &path})
	if err != nil {
		return err
	}
	a.write(a.Render(render.GatewayPlan(plan, path)) + "\n")
	recreate, err := a.agreeOnGateway(ctx, o, plan)
	if err != nil {
		return err
	}
	current := plan.CurrentResource
	if recreate {
		if err := a.deleteGateway(ctx, s, current.Name); err != nil {
			return err
		}
		current = nil
	}
	gateway, err := s.ApplyGateway(ctx, api.ApplyGatewayPlanRequest{
		Plan:  api.ApplyGatewayPlanInput{Spec: plan.Spec, CurrentResource: current},
		Force: o.force,
	})
	switch {
	case err != nil:
		return err
	case o.detach:
		a.Print("Gateway configuration submitted. Exiting...")
		return nil
	case current != nil:
		a.write(a.gatewayTable(s, gateway))
		return nil
	}
	return a.awaitGateway(ctx, s, gateway, o.yes)
}

// agreeOnGateway says what applying would do and asks. It answers whether the
// gateway has to be deleted and made anew.
func (a *App) agreeOnGateway(ctx context.Context, o applyOptions, plan api.GatewayPlan) (recreate bool, err error) {
	name := deref(plan.Spec.Configuration.Name)
	current := plan.CurrentResource
	question := "Create the gateway?"
	if current == nil {
		if name == "" {
			a.Print("The gateway gets a generated name.")
		} else {
			a.Printf("Gateway %s does not exist yet.", name)
		}
		return false, a.askUnless(ctx, o.yes, question)
	}
	was, is := current.Configuration, plan.EffectiveSpec.Configuration
	if is.Default == nil {
		was.Default = nil // "as it was"
	}
	changes := render.ConfigurationChanges(was, is)
	switch {
	case changes == nil && o.yes && !o.force:
		a.Print("No configuration changes detected. Use --force to apply anyway.")
		return false, exitError{exitOK}
	case changes == nil:
		a.Printf("Found gateway %s. No configuration changes detected.", name)
		question, recreate = "Re-create the gateway?", true
	case plan.Action == "update":
		a.Printf("Found gateway %s. Detected changes that can be updated in-place:", name)
		question = "Update the gateway?"
	default:
		a.Printf("Found gateway %s. Detected changes that cannot be updated in-place:", name)
		question, recreate = "Re-create the gateway?", true
	}
	for _, line := range changes {
		a.Print(line)
	}
	if changes != nil {
		a.Print("")
	}
	return recreate, a.askUnless(ctx, o.yes, question)
}

// deleteGateway deletes a gateway and waits until it is gone.
func (a *App) deleteGateway(ctx context.Context, s *session, name string) error {
	if err := s.DeleteGateways(ctx, []string{name}); err != nil {
		return err
	}
	return a.awaitGone(ctx, "Deleting gateway...", func() error {
		_, err := s.GetGateway(ctx, name)
		return err
	})
}

// awaitGateway shows a gateway until it runs or has failed.
func (a *App) awaitGateway(ctx context.Context, s *session, gateway api.Gateway, yes bool) error {
	table := func() string {
		columns := render.GatewayColumns{Created: true, Error: gateway.Status == api.GatewayFailed}
		return a.Render(render.GatewaysTable([]api.Gateway{gateway}, s.project, columns, render.Clock))
	}
	err := a.awaitResource(ctx, "gateway", gateway.Name, yes, func() (string, bool, error) {
		latest, err := s.GetGateway(ctx, gateway.Name)
		if err != nil {
			return "", true, err
		}
		gateway = latest
		return table(), gateway.Status == api.GatewayRunning || gateway.Status == api.GatewayFailed, nil
	}, func() error { return a.deleteGateway(ctx, s, gateway.Name) })
	if err != nil {
		return err
	}
	a.write(table())
	if gateway.Status == api.GatewayFailed {
		return a.provisioningFailed(gateway.StatusMessage)
	}
	return nil
}
