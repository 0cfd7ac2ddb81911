package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dstack/cli/render"
	"dstack/client"
	"dstack/protocol/api"
)

const (
	eventPage = 100
	// eventLookBack is how far a watcher reads back: an event may become
	// visible a moment after its own time.
	eventLookBack = 20 * time.Second
)

// eventTargetTypes are the things that events are about.
var eventTargetTypes = []string{
	"project", "user", "fleet", "instance", "run", "job", "volume", "gateway", "gateway-replica", "secret", "preset",
}

type eventOptions struct {
	project      string
	watch        bool
	since        string
	targets      map[string]*[]string
	within       map[string]*string
	includeTypes []string
	output       outputOptions
}

func (a *App) eventCommand() *cobra.Command {
	o := eventOptions{targets: map[string]*[]string{}, within: map[string]*string{}}
	run := func(cmd *cobra.Command, _ []string) error {
		for c := cmd; c != nil; c = c.Parent() {
			if err := checkExclusive(c); err != nil {
				return err
			}
		}
		return a.events(cmd.Context(), o)
	}
	cmd := &cobra.Command{
		Use: "event {list} ...", Short: "Show what happened", Args: subCommand, RunE: run,
		Long: "Show the last events of the project, oldest first.",
	}
	list := &cobra.Command{Use: "list", Short: "List events", Args: noArgs, RunE: run}
	a.eventFlags(cmd, &o)
	a.eventFlags(list, &o)
	cmd.AddCommand(quietly(list))
	return quietly(cmd)
}

func (a *App) eventFlags(cmd *cobra.Command, o *eventOptions) {
	set := cmd.Flags()
	a.projectFlag(cmd, &o.project)
	set.BoolVarP(&o.watch, "watch", "w", false, "Print new events as they happen")
	set.StringVar(&o.since, "since", "", "Show events since this time: 10m, 2h, 1d, or RFC 3339")
	for _, kind := range []string{"fleet", "run", "volume", "gateway", "secret"} {
		if o.targets[kind] == nil {
			o.targets[kind] = new([]string)
		}
		set.StringArrayVar(o.targets[kind], "target-"+kind, nil, "Only events about this "+kind)
		metavar(set, "target-"+kind, "NAME")
		a.completeFlag(cmd, "target-"+kind, a.completeKind(kind))
	}
	exclusive(set, "target-fleet", "target-run", "target-volume", "target-gateway", "target-secret")
	for _, kind := range []string{"fleet", "run", "gateway"} {
		if o.within[kind] == nil {
			o.within[kind] = new(string)
		}
		set.StringVar(o.within[kind], "within-"+kind, "", "Only events about this "+kind+" and what belongs to it")
		metavar(set, "within-"+kind, "NAME")
		a.completeFlag(cmd, "within-"+kind, a.completeKind(kind))
	}
	exclusive(set, "within-fleet", "within-run", "within-gateway")
	set.Var(newChoices(&o.includeTypes, "EventTargetType", eventTargetTypes...), "include-target-type", "Only events about this type of thing; can be given several times")
	a.completeFlag(cmd, "include-target-type", cobra.FixedCompletions(eventTargetTypes, cobra.ShellCompDirectiveNoFileComp))
	metavar(set, "include-target-type", "TYPE")
	o.output.define(set)
}

func (a *App) events(ctx context.Context, o eventOptions) error {
	s, err := a.connect(o.project)
	if err != nil {
		return err
	}
	since, err := a.since(o.since)
	if err != nil {
		return err
	}
	filter, err := eventFilter(ctx, s, o)
	if err != nil {
		return err
	}
	list, err := listEvents(ctx, s, filter, since)
	if err != nil {
		return err
	}
	if o.watch {
		return a.watchEvents(ctx, s, o, filter, list)
	}
	if o.output.wantsJSON() {
		return a.printJSON(struct {
			Project string      `json:"project"`
			Events  []api.Event `json:"events"`
		}{s.project, nonNil(list)})
	}
	for _, e := range list {
		a.Print(render.Event(e, s.project, a.Console))
	}
	return nil
}

// eventFilter resolves names to ids. Without a filter by name the events are
// those of the project.
func eventFilter(ctx context.Context, s *session, o eventOptions) (api.ListEventsRequest, error) {
	req := api.ListEventsRequest{IncludeTargetTypes: o.includeTypes}
	filtered := false
	for _, f := range []struct {
		ids   *[]string
		kind  string
		id    func(context.Context, string) (string, error)
		names []string
	}{
		{&req.TargetFleets, "Fleet", s.fleetID, *o.targets["fleet"]},
		{&req.TargetRuns, "Run", s.runID, *o.targets["run"]},
		{&req.TargetVolumes, "Volume", s.volumeID, *o.targets["volume"]},
		{&req.TargetGateways, "Gateway", s.gatewayID, *o.targets["gateway"]},
		{&req.TargetSecrets, "Secret", s.secretID, *o.targets["secret"]},
		{&req.WithinFleets, "Fleet", s.fleetID, []string{*o.within["fleet"]}},
		{&req.WithinRuns, "Run", s.runID, []string{*o.within["run"]}},
		{&req.WithinGateways, "Gateway", s.gatewayID, []string{*o.within["gateway"]}},
	} {
		ids, err := idsOf(ctx, f.kind, f.id, f.names...)
		if err != nil {
			return req, err
		}
		*f.ids = ids
		filtered = filtered || ids != nil
	}
	if !filtered {
		project, err := s.GetProject(ctx)
		if err != nil {
			return req, err
		}
		req.WithinProjects = []string{project.ProjectID}
	}
	return req, nil
}

func idsOf(ctx context.Context, kind string, id func(context.Context, string) (string, error), names ...string) ([]string, error) {
	var ids []string
	for _, name := range names {
		if name == "" {
			continue
		}
		one, err := id(ctx, name)
		if client.IsNotExist(err) {
			return nil, missing("%s %s not found", kind, name)
		}
		if err != nil {
			return nil, err
		}
		ids = append(ids, one)
	}
	return ids, nil
}

func (s *session) runID(ctx context.Context, name string) (string, error) {
	run, err := s.GetRun(ctx, name)
	return run.ID, err
}

func (s *session) fleetID(ctx context.Context, name string) (string, error) {
	fleet, err := s.GetFleet(ctx, name)
	return fleet.ID, err
}

func (s *session) volumeID(ctx context.Context, name string) (string, error) {
	volume, err := s.GetVolume(ctx, name)
	return volume.ID, err
}

func (s *session) gatewayID(ctx context.Context, name string) (string, error) {
	gateway, err := s.GetGateway(ctx, name)
	return gateway.ID, err
}

func (s *session) secretID(ctx context.Context, name string) (string, error) {
	secret, err := s.GetSecret(ctx, name)
	return secret.ID, err
}

// listEvents gives events oldest first: all since a time, or the last 100.
func listEvents(ctx context.Context, s *session, filter api.ListEventsRequest, since *api.Time) ([]api.Event, error) {
	limit := eventPage
	filter.Limit = &limit
	if since == nil {
		events, err := s.ListEvents(ctx, filter)
		slices.Reverse(events)
		return events, err
	}
	filter.Ascending, filter.PrevRecordedAt = true, since
	var all []api.Event
	for {
		page, err := s.ListEvents(ctx, filter)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < limit {
			return all, nil
		}
		last := page[len(page)-1]
		filter.PrevRecordedAt, filter.PrevID = &last.RecordedAt, &last.ID
	}
}

// watchEvents prints events and then each new one, until ctx ends.
func (a *App) watchEvents(ctx context.Context, s *session, o eventOptions, filter api.ListEventsRequest, events []api.Event) error {
	again := time.NewTicker(watchPeriod)
	defer again.Stop()
	seen := map[string]time.Time{}
	for {
		for _, e := range events {
			if _, known := seen[e.ID]; known {
				continue
			}
			seen[e.ID] = e.RecordedAt.Time
			if !o.output.wantsJSON() {
				a.Print(render.Event(e, s.project, a.Console))
			} else if err := a.printJSON(e); err != nil {
				return err
			}
		}
		from := a.env.Now().Add(-eventLookBack)
		for id, at := range seen {
			if at.Before(from.Add(-eventLookBack)) {
				delete(seen, id)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-again.C:
		}
		since := api.At(from)
		var err error
		if events, err = listEvents(ctx, s, filter, &since); err != nil {
			return err
		}
	}
}

// errSince says what --since takes.
var errSince = errors.New("Invalid datetime format. Give seconds, a duration such as 10m, 2h or 1d, or a time such as 2026-01-31T12:00:00Z") //nolint:staticcheck // the text of 0.22.5

// since reads how long ago, or when; empty is nil.
func (a *App) since(text string) (*api.Time, error) {
	if text == "" {
		return nil, nil
	}
	if seconds, ok := parseSeconds(text); ok {
		at := api.At(a.env.Now().Add(-time.Duration(seconds) * time.Second))
		return &at, nil
	}
	if at, err := time.Parse(time.RFC3339Nano, strings.Replace(text, " ", "T", 1)); err == nil {
		t := api.At(at)
		return &t, nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02"} {
		if _, err := time.Parse(layout, text); err == nil {
			return nil, sentence("Timestamp is not offset-aware. Specify timezone.")
		}
	}
	return nil, errSince
}

// parseSeconds reads "90", "90s", "10m", "2h", "1d", "1w".
func parseSeconds(text string) (int, bool) {
	units := map[byte]int{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 7 * 86400}
	factor, digits := 1, text
	if n := len(text); n > 1 && units[text[n-1]] > 0 {
		factor, digits = units[text[n-1]], strings.TrimSpace(text[:n-1])
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" || len(digits) > 9 {
		return 0, false
	}
	n := 0
	for _, c := range digits {
		n = n*10 + int(c-'0')
	}
	return n * factor, true
}
