package api

import (
	"fmt"
	"slices"
	"strings"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// gatewayViews renders gateways of any projects for clients of the project
// that asks: default is relative to it.
func gatewayViews(tx *store.Tx, asking string, rows []store.Gateway, v clientVersion) ([]api.Gateway, error) {
	var ids, projectIDs []string
	for _, g := range rows {
		ids = append(ids, g.ID)
		projectIDs = append(projectIDs, g.ProjectID)
	}
	projects, err := tx.ProjectsByID(projectIDs)
	if err != nil {
		return nil, fmt.Errorf("find projects: %w", err)
	}
	def, err := tx.DefaultGateway(asking)
	if err != nil {
		return nil, fmt.Errorf("find default gateway: %w", err)
	}
	replicas, err := tx.GatewayReplicas(ids)
	if err != nil {
		return nil, fmt.Errorf("list replicas of gateways: %w", err)
	}
	out := make([]api.Gateway, len(rows))
	for i := range rows {
		g := &rows[i]
		own := slices.DeleteFunc(slices.Clone(replicas), func(r store.GatewayReplica) bool { return r.GatewayID != g.ID })
		out[i] = gatewayView(g, projects[g.ProjectID].Name, g.ID == def, own)
		legacyGateway(v, &out[i])
	}
	return out, nil
}

func gatewayView(g *store.Gateway, project string, def bool, replicas []store.GatewayReplica) api.Gateway {
	v := api.Gateway{
		ID: g.ID, Name: g.Name, ProjectName: project, Configuration: g.Configuration,
		CreatedAt: api.At(g.CreatedAt), Status: g.Status, StatusMessage: g.StatusMessage,
		Hostname: g.Hostname, WildcardDomain: g.Configuration.Domain, Default: def,
		Replicas: make([]api.GatewayReplica, len(replicas)),
	}
	v.Configuration.Default = &def
	for i, r := range replicas {
		v.Replicas[i] = api.GatewayReplica{
			Hostname: r.Hostname, ReplicaNum: r.Num, Backend: &r.Backend, Region: r.Region,
			CreatedAt: api.At(r.CreatedAt), Status: r.Status, StatusMessage: r.StatusMessage,
		}
	}
	return v
}

// legacyGateway shapes a gateway for older clients (spec: rest-api.md 5).
func legacyGateway(v clientVersion, g *api.Gateway) {
	switch {
	case v.before(0, 20, 25):
		var names []string
		for _, r := range g.Replicas {
			if r.Hostname != nil {
				names = append(names, *r.Hostname)
			}
		}
		joined := strings.Join(names, "\n")
		g.InstanceID, g.IPAddress = new(""), &joined
		if g.Hostname == nil {
			g.Hostname = &joined
		}
	case v.before(0, 20, 27):
		for i := range g.Replicas {
			r := &g.Replicas[i]
			r.Hostname, r.Region = new(deref(r.Hostname, "")), new(deref(r.Region, ""))
			if r.Backend == nil {
				r.Backend = &g.Configuration.Backend
			}
		}
	}
}

// legacyDefault undoes what clients before 0.21.1 mean by false.
func legacyDefault(v clientVersion, c config.Gateway) config.Gateway {
	if v.before(0, 21, 1) && c.Default != nil && !*c.Default {
		c.Default = nil
	}
	return c
}
