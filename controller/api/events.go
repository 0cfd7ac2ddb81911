package api

import (
	"context"
	"fmt"

	"dstack/controller/store"
	"dstack/protocol/api"
)

const maxEvents = 100

// idFilter is a list of ids of one kind of resource; nil means absent.
type idFilter struct {
	kind string
	ids  []string
}

// eventTargets are the target_* filters.
func eventTargets(in *api.ListEventsRequest) []idFilter {
	return []idFilter{
		{"project", in.TargetProjects},
		{"user", in.TargetUsers},
		{"fleet", in.TargetFleets},
		{"instance", in.TargetInstances},
		{"run", in.TargetRuns},
		{"job", in.TargetJobs},
		{"volume", in.TargetVolumes},
		{"gateway", in.TargetGateways},
		{"gateway-replica", in.TargetGatewayReplicas},
		{"secret", in.TargetSecrets},
		{"preset", in.TargetPresets},
	}
}

func (a *API) listEvents(ctx context.Context, c call, in api.ListEventsRequest) ([]api.Event, error) {
	out := []api.Event{}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		filter, err := a.eventFilter(tx, c, &in)
		if err != nil {
			return err
		}
		rows, err := tx.Events(filter)
		if err != nil {
			return fmt.Errorf("list events: %w", err)
		}
		out, err = eventViews(tx, rows)
		return err
	})
	return out, err
}

func (a *API) eventFilter(tx *store.Tx, c call, in *api.ListEventsRequest) (store.EventFilter, error) {
	f := store.EventFilter{IncludeTypes: in.IncludeTargetTypes}
	for _, t := range eventTargets(in) {
		if t.ids != nil {
			f.TargetType, f.TargetIDs = t.kind, t.ids
		}
	}
	f.WithinProjects, f.WithinFleets, f.WithinRuns, f.WithinGateways = in.WithinProjects, in.WithinFleets, in.WithinRuns, in.WithinGateways
	for _, id := range in.Actors {
		if id == nil {
			f.System = true
		} else {
			f.Actors = append(f.Actors, *id)
		}
	}
	if !a.deps.Policy.IsAdmin(&c.User) {
		ids, err := tx.AllMemberProjects(c.User.ID)
		if err != nil {
			return f, fmt.Errorf("list own projects: %w", err)
		}
		f.Visible = &store.EventView{UserID: c.User.ID, ProjectIDs: ids}
	}
	f.Page, _ = pageOf(in.PrevRecordedAt, in.PrevID, in.Limit, maxEvents, in.Ascending)
	return f, nil
}

// eventViews renders events; deleted users and projects keep their names.
func eventViews(tx *store.Tx, rows []store.Event) ([]api.Event, error) {
	var userIDs, projectIDs []string
	for _, e := range rows {
		if e.ActorID != nil {
			userIDs = append(userIDs, *e.ActorID)
		}
		for _, t := range e.Targets {
			if t.ProjectID != nil {
				projectIDs = append(projectIDs, *t.ProjectID)
			}
		}
	}
	users, err := tx.UsersByID(userIDs)
	if err != nil {
		return nil, fmt.Errorf("find actors: %w", err)
	}
	projects, err := tx.ProjectsByID(projectIDs)
	if err != nil {
		return nil, fmt.Errorf("find projects: %w", err)
	}
	out := make([]api.Event, len(rows))
	for i, e := range rows {
		out[i] = api.Event{
			ID: e.ID, Message: e.Message, RecordedAt: api.At(e.RecordedAt), ActorUserID: e.ActorID,
			Targets: make([]api.EventTarget, len(e.Targets)),
		}
		if e.ActorID != nil {
			if u, ok := users[*e.ActorID]; ok {
				out[i].ActorUser, out[i].IsActorUserDeleted = new(u.EventName()), &u.Deleted
			}
		}
		for j, t := range e.Targets {
			view := api.EventTarget{Type: t.Type, ProjectID: t.ProjectID, ID: t.ID, Name: t.Name}
			if t.ProjectID != nil {
				if p, ok := projects[*t.ProjectID]; ok {
					view.ProjectName, view.IsProjectDeleted = new(p.EventName()), &p.Deleted
				}
			}
			out[i].Targets[j] = view
		}
	}
	return out, nil
}
