package api

import (
	"context"
	"fmt"

	"dstack/controller/store"
	"dstack/controller/sweep"
	"dstack/protocol/api"
)

// Sweeper finds machines of clouds that nobody knows.
type Sweeper interface {
	Sweep(ctx context.Context) (sweep.Report, error)
	// Confirm says that strays shall end, by their ids, and sweeps.
	Confirm(ctx context.Context, ids []string, volumes ...string) (sweep.Report, error)
}

// sweep looks for machines that nobody knows, after it was confirmed which of
// those that were found shall end.
func (a *API) sweep(ctx context.Context, _ call, in api.SweepRequest) (api.SweepReport, error) {
	var (
		report sweep.Report
		err    error
	)
	if len(in.Confirm)+len(in.ConfirmVolumes) > 0 {
		report, err = a.deps.Sweeper.Confirm(ctx, in.Confirm, in.ConfirmVolumes...)
	} else {
		report, err = a.deps.Sweeper.Sweep(ctx)
	}
	if err != nil {
		return api.SweepReport{}, fmt.Errorf("sweep: %w", err)
	}
	out := api.SweepReport{Missing: report.Missing}
	err = a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		for i := range report.Strays {
			project, err := tx.Project(report.Strays[i].ProjectID)
			if err != nil {
				return fmt.Errorf("find project: %w", err)
			}
			out.Machines = append(out.Machines, strayView(&report.Strays[i], project.EventName()))
		}
		return nil
	})
	return out, err
}

func strayView(x *store.Stray, project string) api.StrayMachine {
	f := x.Found
	v := api.StrayMachine{
		ID: x.ID, ProjectName: project, Backend: x.Backend, Region: f.Region, InstanceID: x.MachineID, Name: f.Name,
		InstanceType: f.Type, Spot: f.Spot, FoundAt: api.At(x.FoundAt), Kind: f.Kind,
	}
	if f.Kind != "" { // for a command line that knows machines only
		v.InstanceType = f.Kind + " " + f.Type
	}
	if f.Price > 0 {
		v.Price = &f.Price
	}
	if !f.CreatedAt.IsZero() {
		v.CreatedAt = new(api.At(f.CreatedAt))
	}
	if x.Hold != "" {
		v.Held = new(sweep.Hold(x.Hold).Sentence())
	}
	if x.Trouble != "" {
		v.Trouble = &x.Trouble
	}
	return v
}
