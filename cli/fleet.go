package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"dstack/cli/render"
	"dstack/cli/term"
	"dstack/client"
	"dstack/protocol/api"
)

// fleetPoll is how often what changes on the server is looked at.
const fleetPoll = 500 * time.Millisecond

type fleetListOptions struct {
	project        string
	watch, verbose bool
	output         outputOptions
}

func (a *App) fleetCommand() *cobra.Command {
	var o fleetListOptions
	cmd := &cobra.Command{
		Use: "fleet {list,get,delete} ...", Short: "Manage fleets", Args: subCommand,
		Long: "Manage fleets. Without a sub-command the fleets are listed.",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.fleetList(cmd.Context(), o) },
	}
	a.fleetListFlags(cmd, &o)
	list := &cobra.Command{
		Use: "list", Short: "List fleets and their hosts", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.fleetList(cmd.Context(), o) },
	}
	a.fleetListFlags(list, &o)
	cmd.AddCommand(quietly(list), a.fleetGetCommand(&o.project), a.fleetDeleteCommand(&o.project))
	return quietly(cmd)
}

func (a *App) fleetListFlags(cmd *cobra.Command, o *fleetListOptions) {
	a.projectFlag(cmd, &o.project)
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "Watch the fleets and redraw on change")
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "Show resources, drivers and errors")
	o.output.define(cmd.Flags())
}

func (a *App) fleetList(ctx context.Context, o fleetListOptions) error {
	if o.output.wantsJSON() && o.watch {
		return sentence("JSON output is not supported together with --watch")
	}
	s, err := a.connect(o.project)
	if err != nil {
		return err
	}
	draw := func(fleets []api.Fleet) string {
		return a.Render(render.FleetsTable(fleets, s.project, o.verbose, a.age)) + "\n"
	}
	if o.watch {
		return watch(ctx, a, s.ListFleets, draw)
	}
	fleets, err := s.ListFleets(ctx)
	if err != nil {
		return err
	}
	if o.output.wantsJSON() {
		return a.printJSON(struct {
			Project string      `json:"project"`
			Fleets  []api.Fleet `json:"fleets"`
		}{s.project, nonNil(fleets)})
	}
	a.write(draw(fleets))
	return nil
}

func (a *App) fleetGetCommand(project *string) *cobra.Command {
	var (
		id     string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use: "get [NAME]", Short: "Show one fleet as JSON", Args: names(0, 1, "NAME"),
		ValidArgsFunction: a.completeFleets,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf(cmd, args, id); err != nil {
				return err
			}
			return a.fleetGet(cmd.Context(), *project, append(args, "")[0], id)
		},
	}
	a.projectFlag(cmd, project)
	cmd.Flags().StringVar(&id, "id", "", "The id of the fleet")
	cmd.Flags().BoolVar(&asJSON, "json", true, "Print JSON (the only format)")
	return cmd
}

func (a *App) fleetGet(ctx context.Context, project, name, id string) error {
	s, err := a.connect(project)
	if err != nil {
		return err
	}
	var fleet api.Fleet
	switch {
	case id == "":
		fleet, err = s.GetFleet(ctx, name)
	case uuid.Validate(id) != nil:
		return sentence("Invalid UUID format: %s", id)
	default:
		fleet, err = s.GetFleetByID(ctx, id)
	}
	if client.IsNotExist(err) {
		return missing("Fleet %s not found", name+id)
	}
	if err != nil {
		return err
	}
	return a.printIndented(fleet)
}

func (a *App) fleetDeleteCommand(project *string) *cobra.Command {
	var (
		nums []int
		yes  bool
	)
	cmd := &cobra.Command{
		Use: "delete name", Short: "Delete a fleet or some of its hosts", Args: names(1, 1, "name"),
		Long:              "Delete a fleet or, with -i, some of its hosts. What dstack installed on the hosts is removed.",
		ValidArgsFunction: a.completeFleets,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.fleetDelete(cmd.Context(), *project, args[0], nums, yes)
		},
	}
	a.projectFlag(cmd, project)
	cmd.Flags().IntSliceVarP(&nums, "instance", "i", nil, "Delete only the host with this number; can be given several times")
	metavar(cmd.Flags(), "instance", "INSTANCE_NUM")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "Don't ask for confirmation")
	return cmd
}

func (a *App) fleetDelete(ctx context.Context, project, name string, nums []int, yes bool) error {
	if strings.Contains(name, "/") {
		return sentence("The <project>/<fleet> format is not supported for fleet names. Can only delete fleets or instances owned by the current project")
	}
	s, err := a.connect(project)
	if err != nil {
		return err
	}
	fleet, err := s.GetFleet(ctx, name)
	if client.IsNotExist(err) {
		return missing("Fleet %s does not exist", name)
	}
	if err != nil {
		return err
	}
	if err := missingInstances(fleet, nums); err != nil {
		return err
	}
	what := "the fleet " + name
	if len(nums) > 0 {
		what += fmt.Sprintf(" instances %s", strings.ReplaceAll(fmt.Sprint(nums), " ", ", "))
	}
	if !yes {
		if err := a.confirmOrExit(ctx, "Delete "+what+"?"); err != nil {
			return err
		}
	}
	if len(nums) > 0 {
		if err := s.DeleteInstances(ctx, name, nums); err != nil {
			return err
		}
		if err := a.awaitFleet(ctx, s, fleet.ID, "Deleting "+what, func(f api.Fleet) bool {
			return missingInstances(f, nums) != nil
		}); err != nil {
			return err
		}
		a.Printf("Fleet %s instances deleted", name)
		return nil
	}
	return a.deleteFleet(ctx, s, fleet)
}

// missingInstances fails if none of the numbers is a host of the fleet.
func missingInstances(fleet api.Fleet, nums []int) error {
	for _, n := range nums {
		if slices.ContainsFunc(fleet.Instances, func(i api.Instance) bool {
			return i.InstanceNum == n && i.Status != api.InstanceTerminated
		}) {
			return nil
		}
	}
	if len(nums) == 0 {
		return nil
	}
	return sentence("Fleet %s has no instance %s", fleet.Name, strings.Trim(strings.ReplaceAll(fmt.Sprint(nums), " ", ", "), "[]"))
}

// deleteFleet deletes a fleet and waits until its hosts are clean and it is
// gone.
func (a *App) deleteFleet(ctx context.Context, s *session, fleet api.Fleet) error {
	if err := s.DeleteFleets(ctx, []string{fleet.Name}); err != nil {
		return err
	}
	if err := a.awaitFleet(ctx, s, fleet.ID, "Deleting the fleet "+fleet.Name, func(f api.Fleet) bool {
		return f.Status == api.FleetTerminated
	}); err != nil {
		return err
	}
	a.Printf("Fleet %s deleted", fleet.Name)
	return nil
}

// awaitFleet shows a fleet until it is gone or done says so. Ctrl-C leaves
// the deletion to the server.
func (a *App) awaitFleet(ctx context.Context, s *session, id, status string, done func(api.Fleet) bool) error {
	pressed, release := a.Interrupts.Capture()
	defer release()
	live := a.Live()
	defer live.Clear()
	return a.poll(ctx, live, pressed, func() (bool, error) {
		fleet, err := s.GetFleetByID(ctx, id)
		if client.IsNotExist(err) {
			return true, nil
		}
		if err != nil || done(fleet) {
			return true, err
		}
		live.Show(status+"...", a.Render(render.FleetsTable([]api.Fleet{fleet}, s.project, false, render.Clock)))
		return false, nil
	}, func() error {
		live.Clear()
		a.Print("Exiting... The deletion goes on in the background.")
		return exitError{exitOK}
	})
}

// poll calls look again and again until it is done, spinning in between;
// onInterrupt answers Ctrl-C.
func (a *App) poll(ctx context.Context, live *term.Live, pressed <-chan struct{},
	look func() (done bool, err error), onInterrupt func() error,
) error {
	again := time.NewTicker(fleetPoll)
	defer again.Stop()
	spin := time.NewTicker(term.FrameTime)
	defer spin.Stop()
	done, err := look()
	for !done && err == nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-pressed:
			return onInterrupt()
		case <-spin.C:
			live.Spin()
		case <-again.C:
			done, err = look()
		}
	}
	return err
}
