package engine

import (
	"slices"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// gatewayView is what a decision about a gateway looks at.
type gatewayView struct {
	gateway  *store.Gateway
	replicas []store.GatewayReplica
	// configured says that the project has the gateway's backend.
	configured bool
}

// decideGateway lets a gateway go once its replicas are gone. One that is
// submitted fails: this build has no driver that could make it.
func decideGateway(v gatewayView) *decision {
	d := &decision{}
	g := v.gateway
	switch {
	case g.Deleting:
		if slices.ContainsFunc(v.replicas, func(r store.GatewayReplica) bool { return r.Status != api.ReplicaTerminated }) {
			return d
		}
		d.event("Gateway deleted", gatewayTarget(g))
		d.goneGateways = append(d.goneGateways, g.ID)
		d.final = true
	case g.Status == api.GatewaySubmitted:
		g.StatusMessage = new(noDriver(v.configured, g.Configuration.Backend))
		d.event(statusChanged("Gateway", g.Status, api.GatewayFailed, g.StatusMessage), gatewayTarget(g))
		g.Status = api.GatewayFailed
		save(&d.gateways, g)
	}
	return d
}

func (*Engine) gatewayView(tx *store.Tx, id string) (gatewayView, error) {
	g, err := found(tx.Gateway(id))
	if err != nil {
		return gatewayView{}, err
	}
	v := gatewayView{gateway: &g}
	if v.replicas, err = tx.GatewayReplicas([]string{id}); err != nil {
		return v, err
	}
	v.configured, err = hasBackend(tx, g.ProjectID, g.Configuration.Backend)
	return v, err
}

func gatewayTarget(g *store.Gateway) store.EventTarget {
	return store.EventTarget{Type: "gateway", ProjectID: &g.ProjectID, ID: g.ID, Name: g.Name}
}

func hasBackend(tx *store.Tx, projectID, backend string) (bool, error) {
	types, err := tx.BackendTypes(projectID)
	return slices.Contains(types, backend), err
}
