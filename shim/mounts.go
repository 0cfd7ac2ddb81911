package shim

import (
	"context"
	"fmt"

	"dstack/protocol/hostapi"
	"dstack/shim/workload"
)

// Volumes mounts network volumes on the host.
type Volumes interface {
	// Mount makes a volume available in a folder of the host; repeatable.
	Mount(ctx context.Context, v hostapi.Volume) (folder string, err error)
	// Keep unmounts all volumes but those that are named. The names are asked
	// for while nothing is mounted.
	Keep(ctx context.Context, names func() []string) error
}

// mount mounts the task's volumes and says where the container gets them.
func (t *task) mount(ctx context.Context) ([]hostapi.InstanceMount, error) {
	var out []hostapi.InstanceMount
	for _, v := range t.record().Spec.Volumes {
		if t.m.cfg.Volumes == nil {
			return nil, &workload.StartError{Reason: reasonVolume, Message: "This host can have no network volumes"}
		}
		folder, err := t.m.cfg.Volumes.Mount(ctx, v)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("mount volume: %w", context.Cause(ctx))
		}
		if err != nil {
			return nil, &workload.StartError{Reason: reasonVolume, Message: "prepareVolumes error: " + err.Error()}
		}
		out = append(out, hostapi.InstanceMount{Source: folder, Target: v.Target})
	}
	return out, nil
}

// unmount unmounts the task's volumes that no other task uses, before anybody
// hears that the task ended: they may be detached then. What fails must not
// keep the task from ending: the cloud can detach them all the same.
func (t *task) unmount(ctx context.Context) {
	if len(t.record().Spec.Volumes) == 0 {
		return
	}
	t.mu.Lock()
	t.ending = true
	t.mu.Unlock()
	if err := t.m.unmountUnused(ctx); err != nil {
		t.log.Warn().Err(err).Msg("volumes not unmounted")
	}
}

// unmountUnused unmounts the volumes that no task uses.
func (m *Manager) unmountUnused(ctx context.Context) error {
	if m.cfg.Volumes == nil {
		return nil
	}
	return m.cfg.Volumes.Keep(ctx, func() []string {
		var used []string
		for _, t := range m.all() {
			t.mu.Lock()
			if !t.ending && !t.rec.ended() {
				for _, v := range t.rec.Spec.Volumes {
					used = append(used, v.Name)
				}
			}
			t.mu.Unlock()
		}
		return used
	})
}
