package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// NewGateway is a gateway to be created; without a name it gets one.
type NewGateway struct {
	ProjectID string
	ActorID   string
	// Configuration.Default nil makes it the default of a project that has none.
	Configuration config.Gateway
}

// CreateGateway records a gateway. A name that is taken makes it fail with
// [*Refused].
func (e *Engine) CreateGateway(ctx context.Context, n NewGateway) (store.Gateway, error) {
	var g store.Gateway
	err := e.write(ctx, "create gateway", func(tx *store.Tx) (err error) {
		g, err = e.createGateway(tx, n)
		return err
	})
	if err != nil {
		return store.Gateway{}, err // the writer may still be at it
	}
	return g, nil
}

func (e *Engine) createGateway(tx *store.Tx, n NewGateway) (store.Gateway, error) {
	now := e.now()
	conf := n.Configuration
	if conf.Name == nil || *conf.Name == "" {
		name, err := freshWords(e.cfg.NewID(), func(prefix string) ([]string, error) {
			return tx.GatewayNames(n.ProjectID, prefix)
		})
		if err != nil {
			return store.Gateway{}, err
		}
		conf.Name = &name
	}
	def := conf.Default
	conf.Default = nil
	g := store.Gateway{
		ID: e.cfg.NewID(), ProjectID: n.ProjectID, Name: *conf.Name, Configuration: conf,
		Status: api.GatewaySubmitted, CreatedAt: now, LastProcessedAt: now,
	}
	err := tx.InsertGateway(&g)
	if errors.Is(err, store.ErrExists) {
		return g, exists()
	}
	if err != nil {
		return g, err
	}
	if err := e.record(tx, now, []store.Event{newEvent("Gateway created. Status: "+upper(g.Status), &n.ActorID, gatewayTarget(&g))}); err != nil {
		return g, err
	}
	if def == nil {
		current, err := tx.DefaultGateway(n.ProjectID)
		if err != nil {
			return g, err
		}
		def = new(current == "")
	}
	if *def {
		if err := e.setDefault(tx, n.ProjectID, &g, &n.ActorID); err != nil {
			return g, err
		}
	}
	return g, tx.Wake(now, store.Key{Kind: store.KindGateway, ID: g.ID})
}

// setDefault makes g the default of a project; nil leaves it without one.
func (e *Engine) setDefault(tx *store.Tx, projectID string, g *store.Gateway, actor *string) error {
	current, err := tx.DefaultGateway(projectID)
	if err != nil || g == nil && current == "" || g != nil && g.ID == current {
		return err
	}
	project, err := tx.Project(projectID)
	if err != nil {
		return err
	}
	target := store.EventTarget{Type: "project", ProjectID: &project.ID, ID: project.ID, Name: project.Name}
	var events []store.Event
	if current != "" {
		old, err := tx.Gateway(current)
		if err != nil {
			return err
		}
		events = append(events, newEvent("Gateway unset as project default", actor, gatewayTarget(&old), target))
	}
	id := ""
	if g != nil {
		id = g.ID
		events = append(events, newEvent("Gateway set as project default", actor, gatewayTarget(g), target))
	}
	if err := tx.SetDefaultGateway(projectID, id); err != nil {
		return err
	}
	return e.record(tx, e.now(), events)
}

// GatewayUpdate changes a gateway in place.
type GatewayUpdate struct {
	ActorID   string
	GatewayID string
	// Version is that of the gateway that the caller looked at; if it changed
	// since, the update fails with store.ErrConflict.
	Version int64
	// Configuration replaces the stored one; its Default nil changes nothing.
	Configuration config.Gateway
	// Changed names the fields for the event.
	Changed []string
}

// UpdateGateway changes a gateway in place.
func (e *Engine) UpdateGateway(ctx context.Context, u GatewayUpdate) error {
	err := e.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		g, err := tx.Gateway(u.GatewayID)
		if err != nil {
			return err
		}
		if g.Version != u.Version {
			return store.ErrConflict
		}
		if err := e.changeDefault(tx, &g, u.Configuration.Default, &u.ActorID); err != nil {
			return err
		}
		g.Configuration = u.Configuration
		g.Configuration.Default = nil
		text := "Gateway updated. Changed fields: " + strings.Join(u.Changed, ", ")
		return e.saveGateway(tx, &g, newEvent(strings.TrimSpace(text), &u.ActorID, gatewayTarget(&g)))
	})
	if err != nil {
		return fmt.Errorf("update gateway: %w", err)
	}
	return nil
}

// changeDefault makes g the default of its project or not; nil leaves it.
func (e *Engine) changeDefault(tx *store.Tx, g *store.Gateway, want *bool, actor *string) error {
	if want == nil {
		return nil
	}
	if *want {
		return e.setDefault(tx, g.ProjectID, g, actor)
	}
	current, err := tx.DefaultGateway(g.ProjectID)
	if err != nil || current != g.ID {
		return err
	}
	return e.setDefault(tx, g.ProjectID, nil, actor)
}

// saveGateway writes g with the event of its change, and has it looked at.
func (e *Engine) saveGateway(tx *store.Tx, g *store.Gateway, event store.Event) error {
	d := &decision{gateways: []*store.Gateway{g}, events: []store.Event{event}}
	d.wake(store.KindGateway, g.ID)
	return e.apply(tx, d, e.now())
}

// SetDefaultGateway makes a gateway, maybe one of another project, the
// default of a project. One that is being deleted is [*Refused].
func (e *Engine) SetDefaultGateway(ctx context.Context, actorID, projectID, gatewayID string) error {
	return e.write(ctx, "set default gateway", func(tx *store.Tx) error {
		g, err := tx.Gateway(gatewayID)
		if err != nil {
			return err
		}
		if g.Deleting {
			return refuse("Cannot set gateway marked for deletion as default")
		}
		return e.setDefault(tx, projectID, &g, &actorID)
	})
}

// SetGatewayDomain changes the domain below which a gateway has services.
func (e *Engine) SetGatewayDomain(ctx context.Context, actorID, gatewayID, domain string) error {
	return e.write(ctx, "set domain of gateway", func(tx *store.Tx) error {
		g, err := tx.Gateway(gatewayID)
		if err != nil {
			return err
		}
		old := "None"
		if d := g.Configuration.Domain; d != nil {
			if *d == domain {
				return nil
			}
			old = "'" + *d + "'"
		}
		g.Configuration.Domain = &domain
		text := fmt.Sprintf("Gateway wildcard domain changed %s -> '%s'", old, domain)
		return e.saveGateway(tx, &g, newEvent(text, &actorID, gatewayTarget(&g)))
	})
}

// DeleteGateways marks gateways of a project for deletion; unknown names are
// left out.
func (e *Engine) DeleteGateways(ctx context.Context, actorID, projectID string, names []string) error {
	return e.write(ctx, "delete gateways", func(tx *store.Tx) error {
		for _, name := range names {
			g, err := tx.GatewayByName(projectID, name)
			if errors.Is(err, store.ErrNotFound) || err == nil && g.Deleting {
				continue
			}
			if err != nil {
				return err
			}
			g.Deleting = true
			if err := e.saveGateway(tx, &g, newEvent("Gateway marked for deletion", &actorID, gatewayTarget(&g))); err != nil {
				return err
			}
		}
		return nil
	})
}
