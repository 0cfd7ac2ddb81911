package engine

import (
	"testing"
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// TestDecideVolume covers what becomes of an active volume.
func TestDecideVolume(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		change  func(*volumeView)
		deleted bool
		next    time.Time
	}{
		"used for ever":     {func(v *volumeView) { v.volume.Configuration.AutoCleanupDuration = nil }, false, time.Time{}},
		"off":               {func(v *volumeView) { v.volume.Configuration.AutoCleanupDuration = new(-1) }, false, time.Time{}},
		"not long enough":   {func(v *volumeView) { v.volume.CreatedAt = now.Add(-time.Minute) }, false, now.Add(time.Hour - time.Minute)},
		"never used":        {func(*volumeView) {}, true, time.Time{}},
		"used a minute ago": {func(v *volumeView) { v.volume.LastUsedAt = new(now.Add(-time.Minute)) }, false, now.Add(time.Hour - time.Minute)},
		"attached":          {func(v *volumeView) { v.attached = true }, false, time.Time{}},
		"external":          {func(v *volumeView) { v.volume.Configuration.VolumeID = new("x") }, false, time.Time{}},
		"failed":            {func(v *volumeView) { v.volume.Status = api.VolumeFailed }, false, time.Time{}},
		"wanted":            {func(v *volumeView) { v.volume.Deleting, v.volume.Status = true, api.VolumeFailed }, true, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			v := volumeView{now: now, volume: &store.Volume{
				Status: api.VolumeActive, CreatedAt: now.Add(-2 * time.Hour),
				Configuration: config.Volume{Backend: "aws", AutoCleanupDuration: new(3600)},
			}}
			tt.change(&v)
			d := decideVolume(v)
			if v.volume.Deleted != tt.deleted || d.final != tt.deleted || !d.next.Equal(tt.next) {
				t.Errorf("deleted %t, final %t, next %v", v.volume.Deleted, d.final, d.next)
			}
			if tt.deleted && (v.volume.DeletedAt == nil || len(d.events) == 0) {
				t.Errorf("deleted at %v with events %v", v.volume.DeletedAt, d.events)
			}
		})
	}
}

// TestDecideGateway keeps a gateway until its replicas are gone.
func TestDecideGateway(t *testing.T) {
	t.Parallel()
	v := gatewayView{
		gateway:  &store.Gateway{ID: "g", Deleting: true, Status: api.GatewayRunning},
		replicas: []store.GatewayReplica{{Status: api.ReplicaTerminated}, {Status: api.ReplicaTerminating}},
	}
	if d := decideGateway(v); len(d.goneGateways) != 0 || d.final {
		t.Error("gone before its replicas")
	}
	v.replicas[1].Status = api.ReplicaTerminated
	if d := decideGateway(v); len(d.goneGateways) != 1 || !d.final {
		t.Error("it stays without replicas")
	}
	v.gateway.Deleting = false
	if d := decideGateway(v); len(d.events) != 0 {
		t.Errorf("a running gateway: %v", d.events)
	}
}
