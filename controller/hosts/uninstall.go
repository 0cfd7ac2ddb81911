package hosts

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"dstack/protocol/hostapi"
)

//go:embed remove.sh
var removeScript string

// Uninstall ends all tasks of a host and removes the shim, its unit, binaries,
// keys and home. It forgets the host first. When it returns nil nothing of
// ours is left there; it may be repeated. Errors are of type *hostapi.Problem.
func (p *Pool) Uninstall(ctx context.Context, t Target) error {
	p.Forget(t.InstanceID)
	err := p.uninstall(ctx, t)
	if err == nil {
		p.opt.Log.Info().Str("instance", t.InstanceID).Msg("host uninstalled")
		return nil
	}
	problem := *problemOf(t, err)
	problem.Message = fmt.Sprintf("Cannot remove dstack-shim from %s: %s", t.name(), problem.Message)
	return &problem
}

func (p *Pool) uninstall(ctx context.Context, t Target) error {
	if t.Access.Local {
		return p.uninstallLocal(ctx, t)
	}
	client, _, err := dialSSH(ctx, t)
	if err != nil {
		return err
	}
	defer endWith(ctx, client)()
	r := &remote{target: t, server: p.opt.ServerID, client: client, layout: p.layout, payload: p.opt.Payload}
	err = r.probe(ctx)
	var old predecessor
	if err == nil {
		old, err = r.predecessor(ctx)
	}
	if old.is {
		return client.Close() // nothing of ours is there
	}
	if err == nil && r.isOthers(ctx) {
		return client.Close()
	}
	if err == nil {
		err = r.rootScript(ctx, "remove it", r.layout.vars(r.facts.systemd), removeScript)
	}
	// A host that cannot have been installed has nothing to remove.
	var problem *hostapi.Problem
	if errors.As(err, &problem) && problem.Code == codeWrongArch {
		err = nil
	}
	return errors.Join(err, client.Close())
}

// isOthers says that the shim on the host serves another server.
func (r *remote) isOthers(ctx context.Context) bool {
	c, err := r.dialShim(ctx)
	if err != nil {
		return false
	}
	defer c.link.close()
	return c.info.Claim != ""
}
