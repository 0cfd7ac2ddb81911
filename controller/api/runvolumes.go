package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// checkVolumes demands that the network volumes of jobs exist, are usable and
// can all be in one place (spec: rest-api.md 9.1).
func (a *API) checkVolumes(ctx context.Context, c call, jobs []api.JobSpec) error {
	if !slices.ContainsFunc(jobs, func(j api.JobSpec) bool { return len(volumesOf(j)) > 0 }) {
		return nil
	}
	return a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		for _, j := range jobs {
			if err := checkJobVolumes(tx, c, volumesOf(j)); err != nil {
				return err
			}
		}
		return checkSharing(tx, c, jobs)
	})
}

// checkSharing refuses nodes that would need one volume at the same time: each
// has a machine of its own, and a volume is attached to one.
func checkSharing(tx *store.Tx, c call, jobs []api.JobSpec) error {
	type user struct {
		replica int
		volume  string
	}
	users := map[user]bool{}
	for _, j := range jobs {
		for _, m := range volumesOf(j) {
			if len(m.Names) > 1 {
				continue // another of the list may be free
			}
			u := user{j.ReplicaNum, m.Names[0]}
			v, err := tx.VolumeByName(c.Project.ID, u.volume)
			if err != nil {
				return fmt.Errorf("find volume: %w", err)
			}
			if users[u] && v.Provisioning != nil && v.Provisioning.Attachable {
				return refuse("Volume %s cannot be mounted by more than one node. Use one volume for each, with ${{ dstack.node_rank }} in its name", u.volume)
			}
			users[u] = true
		}
	}
	return nil
}

// loadVolumes finds where the network volumes of jobs are, in the order of the
// jobs; nil for those without any.
func (a *API) loadVolumes(ctx context.Context, c call, jobs []api.JobSpec) ([]*offers.Volumes, error) {
	out := make([]*offers.Volumes, len(jobs))
	if !slices.ContainsFunc(jobs, func(j api.JobSpec) bool { return len(volumesOf(j)) > 0 }) {
		return out, nil
	}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) (err error) {
		for i, j := range jobs {
			if out[i], err = offers.LoadVolumes(tx, c.Project.ID, j.Volumes); err != nil {
				return err //nolint:wrapcheck // says what it was doing
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find volumes: %w", err)
	}
	return out, nil
}

func volumesOf(j api.JobSpec) []config.Mount {
	var out []config.Mount
	for _, m := range j.Volumes {
		if len(m.Names) > 0 {
			out = append(out, m)
		}
	}
	return out
}

// place is where a volume can be attached.
type place struct{ backend, region string }

func checkJobVolumes(tx *store.Tx, c call, mounts []config.Mount) error {
	used := map[string]bool{}
	var first []place
	for i, m := range mounts {
		var places []place
		for _, name := range m.Names {
			v, err := tx.VolumeByName(c.Project.ID, name)
			if isNotFound(err) {
				return notExists("Volume ['%s'] not found", strings.Join(m.Names, "', '"))
			}
			if err != nil {
				return fmt.Errorf("find volume: %w", err)
			}
			switch {
			case v.Deleting:
				return refuse("Volume %s is marked for deletion and cannot be mounted", name)
			case v.Status != api.VolumeActive:
				return refuse("Volume %s is not active and cannot be mounted", name)
			case used[v.ID]:
				return refuse("Cannot attach the same volume at different mount points")
			}
			used[v.ID] = true
			places = append(places, place{v.Configuration.Backend, v.Configuration.Region})
		}
		if i == 0 {
			first = places
		} else if !samePlaces(first, places) {
			return refuse("Volumes from different backends and regions are specified: mount points must offer the same ones")
		}
	}
	return nil
}

func samePlaces(a, b []place) bool {
	within := func(x, y []place) bool {
		return !slices.ContainsFunc(x, func(p place) bool { return !slices.Contains(y, p) })
	}
	return within(a, b) && within(b, a)
}
