package engine

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/backends"
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
		"attached":          {func(v *volumeView) { v.holders = []tenancy{testTenancy(now)} }, false, time.Time{}},
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

// testTenancy is the attachment of a volume that a job uses.
func testTenancy(now time.Time) tenancy {
	return tenancy{
		at:   &store.VolumeAttachment{VolumeID: "v", InstanceID: "i", WantedAt: now.Add(-time.Minute), Device: new("/dev/sdf")},
		inst: &store.Instance{ID: "i", Status: api.InstanceBusy, Machine: &store.Machine{ID: "i-1"}}, jobs: []string{"j"},
	}
}

// TestVolumeOnMachine covers what becomes of an attachment.
func TestVolumeOnMachine(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	later := now.Add(time.Minute)
	for name, tt := range map[string]struct {
		change func(*tenancy)
		effect EffectKind // empty: none
		force  bool
		next   time.Time
		gone   bool
		failed bool
	}{
		"used":                {func(*tenancy) {}, "", false, time.Time{}, false, false},
		"wanted":              {func(h *tenancy) { h.at.Device = nil }, DoAttach, false, now.Add(attachLimit - time.Minute), false, false},
		"wanted for too long": {func(h *tenancy) { h.at.Device, h.at.WantedAt = nil, now.Add(-attachLimit) }, "", false, time.Time{}, false, true},
		"refused":             {func(h *tenancy) { h.at.Device, h.at.Failed = nil, true }, "", false, time.Time{}, false, true},
		"used no more":        {func(h *tenancy) { h.jobs = nil }, DoDetach, false, time.Time{}, false, false},
		"leaving":             {func(h *tenancy) { h.at.DetachAt, h.at.ForceAt = &now, &later }, DoDetach, false, later, false, false},
		"leaving for too long": {func(h *tenancy) { h.at.DetachAt, h.at.ForceAt = new(now.Add(-time.Hour)), &now },
			DoDetach, true, time.Time{}, false, false},
		"leaving, as long as it likes": {func(h *tenancy) { h.at.DetachAt = new(now.Add(-time.Hour)) }, DoDetach, false, time.Time{}, false, false},
		"leaving, and a task is left": {func(h *tenancy) { h.at.DetachAt, h.at.ForceAt, h.lingers = &now, &later, true },
			"", false, later, false, false},
		"leaving, and a task is left, as long as it likes": {func(h *tenancy) { h.at.DetachAt, h.lingers = &now, true }, "", false, time.Time{}, false, false},
		"leaving, and a task is left too long": {func(h *tenancy) { h.at.DetachAt, h.at.ForceAt, h.lingers = &now, &now, true },
			DoDetach, true, time.Time{}, false, false},
		"used no more, and a task is left": {func(h *tenancy) { h.jobs, h.lingers = nil, true }, "", false, time.Time{}, false, false},
		"the machine of a task is gone":    {func(h *tenancy) { h.inst.Machine.GoneAt, h.lingers = &now, true }, "", false, time.Time{}, true, false},
		"the machine is gone":              {func(h *tenancy) { h.inst.Machine.GoneAt = &now }, "", false, time.Time{}, true, false},
		"its instance is":                  {func(h *tenancy) { h.inst.Status = api.InstanceTerminated }, "", false, time.Time{}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := testTenancy(now)
			tt.change(&h)
			v := volumeView{now: now, volume: &store.Volume{ID: "v", ProjectID: "p", Status: api.VolumeActive}, holders: []tenancy{h}}
			d := decideVolume(v)
			var effect EffectKind
			force := false
			for _, f := range d.effects {
				effect, force = f.Kind, f.Disk.Force
			}
			if effect != tt.effect || force != tt.force || !d.next.Equal(tt.next) || h.at.Failed != tt.failed {
				t.Errorf("effect %q, force %t, next %v, failed %t", effect, force, d.next, h.at.Failed)
			}
			if gone := len(d.goneAttachments) == 1; gone != tt.gone || gone && (d.released != "p" || v.volume.LastUsedAt == nil) {
				t.Errorf("gone %t, released %q", gone, d.released)
			}
			if touched := len(d.attachments)+len(d.goneAttachments) > 0; touched && len(d.volumes) == 0 {
				t.Error("the attachment changes without its volume")
			}
		})
	}
}

// TestForcedDetachment is how long a machine may keep a volume of a job that
// ended.
func TestForcedDetachment(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		reason api.JobReason
		stop   *int
		want   *time.Time
	}{
		"the time to stop":          {api.ReasonTerminatedByUser, new(300), new(now.Add(5 * time.Minute))},
		"a minute at least":         {api.ReasonDoneByRunner, new(10), new(now.Add(time.Minute))},
		"never":                     {api.ReasonTerminatedByUser, nil, nil},
		"aborted":                   {api.ReasonJobAbortedByUser, new(300), new(now.Add(time.Minute))},
		"aborted, time without end": {api.ReasonJobAbortedByUser, nil, new(now.Add(time.Minute))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := jobView{now: now, job: &store.Job{Reason: &tt.reason}, attached: []attached{
				{volume: &store.Volume{ID: "v"}, at: &store.VolumeAttachment{VolumeID: "v", ForceAt: new(now)}}, {volume: &store.Volume{ID: "w"}},
			}}
			v.job.Spec.StopDuration = tt.stop
			d := &decision{}
			v.leaveVolumes(d)
			if diff := cmp.Diff(tt.want, v.attached[0].at.ForceAt); diff != "" {
				t.Error(diff)
			}
			if len(d.attachments) != 1 || len(d.volumes) != 1 || len(d.wakes) != 1 {
				t.Errorf("writes %d attachments, %d volumes, wakes %v", len(d.attachments), len(d.volumes), d.wakes)
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

// TestVolumeRefused forgets the token of a volume only if nobody can have made
// it: a server that was killed may have asked for it.
func TestVolumeRefused(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		created time.Time
		message *string
		token   string
	}{
		"never in doubt":     {began.Add(time.Second), nil, ""},
		"an answer was lost": {began.Add(time.Second), new("no answer"), "token"},
		"asked for before":   {began.Add(-time.Second), nil, "token"},
		"made as it began":   {began, nil, "token"},
	} {
		t.Run(name, func(t *testing.T) {
			vol := &store.Volume{Status: api.VolumeProvisioning, Token: "token", CreatedAt: tt.created, StatusMessage: tt.message}
			a := diskAnswer{volumeView: volumeView{now: began.Add(time.Minute), recovered: began, volume: vol}, d: &decision{}}
			a.err = &backends.Error{Kind: backends.Quota, Message: "too many"}
			if err := a.made(); err != nil || vol.Status != api.VolumeFailed || vol.Token != tt.token {
				t.Errorf("the volume is %s with token %q: %v", vol.Status, vol.Token, err)
			}
		})
	}
}
