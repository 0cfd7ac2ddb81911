package engine

import (
	"testing"
	"time"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/hosts"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

// spotFleet has one spot machine, which is idle.
func (r *cloudRig) spotFleet(least int) (store.Fleet, store.Instance) {
	r.t.Helper()
	f := r.fleet(least, 1, 1, func(c *config.Fleet) { c.SpotPolicy = new(config.SpotPolicySpot) })
	time.Sleep(time.Minute)
	expect(r.t, "before", r.statuses(f), "idle")
	return f, r.instances(f)[0]
}

// announce lets the machine's shim tell a notice.
func (r *cloudRig) announce(i store.Instance, n hostapi.Notice) {
	r.t.Helper()
	info := *i.Info
	info.Notice = &n
	if err := r.engine.HostInfo(r.t.Context(), i.ID, info); err != nil {
		r.t.Fatal(err)
	}
	time.Sleep(30 * time.Second)
}

// TestNoticeEndsAnIdleMachine gives back what the cloud takes, and has another
// one where the fleet must have it.
func TestNoticeEndsAnIdleMachine(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		f, i := r.spotFleet(0)
		r.announce(i, hostapi.Notice{Kind: hostapi.NoticeRebalance})
		expect(r.t, "after a recommendation", r.statuses(f), "idle")
		if !r.told("likely to take the spot machine back") {
			r.t.Errorf("events: %q", r.events())
		}
		r.announce(i, hostapi.Notice{Kind: hostapi.NoticeInterruption, Ends: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)})
		expect(r.t, "after the notice", r.statuses(f), "")
		if !r.told("Termination reason: UNREACHABLE (The cloud takes the spot machine back at 03:04:05 UTC)") {
			r.t.Errorf("events: %q", r.events())
		}
		r.clear(f)
	})
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		f, i := r.spotFleet(1)
		r.announce(i, hostapi.Notice{Kind: hostapi.NoticeInterruption})
		time.Sleep(time.Minute)
		expect(r.t, "another one", r.statuses(f), "idle")
		if again := r.instances(f)[0]; again.ID == i.ID {
			r.t.Error("the machine stays")
		}
		r.clear(f)
	})
}

// A machine on which a job still runs is left to it.
func TestNoticeWaitsForTheJob(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		name string
		jobs int
		kind string
		want api.InstanceStatus
	}{
		{"with a job", 1, hostapi.NoticeInterruption, api.InstanceBusy},
		{"without", 0, hostapi.NoticeInterruption, api.InstanceTerminating},
		{"a recommendation", 0, hostapi.NoticeRebalance, api.InstanceBusy},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := store.Instance{
				ID: "i", Backend: "aws", Status: api.InstanceBusy, Machine: &store.Machine{Backend: "aws", ID: "m"},
				Info: &hostapi.Info{Notice: &hostapi.Notice{Kind: c.kind}},
			}
			decideInstance(instanceView{now: now, inst: &i, jobs: make([]store.Job, c.jobs), cloudView: cloudView{fleet: &store.Fleet{}}})
			expect(t, "status", i.Status, c.want)
		})
	}
}

// A machine that ended by itself may leave what its driver made with it, such
// as an address: that is given back like the machine's.
func TestEndedMachineLeavesNothing(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for data, released := range map[string]int{"": 0, `{"elastic_ip":true}`: 1} {
		m := &store.Machine{Backend: "aws", ID: "m", Data: data, AskedAt: now.Add(-time.Hour)}
		i := store.Instance{ID: "i", Backend: "aws", Status: api.InstanceBusy, Machine: m}
		a := answerOf{now: now, asked: now, kind: DoWatch, inst: &i, seen: backends.Machine{State: backends.MachineGone}}
		if err := a.take(); err != nil || m.EndedAt == nil {
			t.Fatalf("%q: %v, %+v", data, err, m)
		}
		d := decideInstance(instanceView{now: now, inst: &i, cloudView: cloudView{fleet: &store.Fleet{}}})
		got := 0
		for _, f := range d.effects {
			if f.Kind == DoRelease {
				got++
			}
		}
		if got != released || (i.Status == api.InstanceTerminated) != (released == 0) {
			t.Errorf("%q: %d releases, %s", data, got, i.Status)
		}
	}
}

// TestVolumeThatIsNotShown is not taken for one that is gone while its cloud may
// not show it yet.
func TestVolumeThatIsNotShown(t *testing.T) {
	made := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	missing := &backends.Error{Kind: backends.NotFound}
	for _, c := range []struct {
		name  string
		after time.Duration
		shown bool
		gone  bool
	}{
		{"just made", time.Second, false, false},
		{"later", settleTime, false, true},
		{"it was shown", time.Second, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			vol := store.Volume{ID: "v", CreatedAt: made, Deleting: true, Provisioning: &api.VolumeProvisioningData{VolumeID: "vol-1"}}
			now := made.Add(c.after)
			a := diskAnswer{volumeView{now: now, volume: &vol}, &decision{}, now, DiskAnswer{Shown: c.shown}, missing}
			if err := a.erased(); vol.Deleted != c.gone || (err == nil) != c.gone {
				t.Errorf("gone: %t, %v", vol.Deleted, err)
			}
		})
	}
}

// TestNoticeIsToldOnce names the jobs, and is quiet when it is said again.
func TestNoticeIsToldOnce(t *testing.T) {
	s := &scene{inst: store.Instance{ID: "i", Name: "fleet-0"}, jobs: []store.Job{
		{ID: "j1", Status: api.JobRunning}, {ID: "j2", Status: api.JobDone},
	}}
	info := hostapi.Info{Notice: &hostapi.Notice{Kind: hostapi.NoticeInterruption}}
	inform(s, info)
	inform(s, info)
	if len(s.events) != 1 || len(s.events[0].Targets) != 2 || s.events[0].Targets[1].ID != "j1" {
		t.Errorf("events: %+v", s.events)
	}
}

// TestOwnHostKey forgets the key that went with user-data when the machine has
// one of its own.
func TestOwnHostKey(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		f, i := r.spotFleet(0)
		want := &hosts.Rented{Cloud: fake.Type, Spot: true, FirstKey: "ssh-ed25519 AAAA"}
		r.hosts.mu.Lock()
		got := r.hosts.wanted[i.ID].Rented
		r.hosts.mu.Unlock()
		if got == nil || *got != *want {
			r.t.Errorf("the host is %+v, want %+v", got, want)
		}
		for _, step := range []struct {
			pinned  []string
			private string
		}{
			{[]string{"ssh-ed25519 AAAA", "ssh-ed25519 BBBB"}, "PRIVATE KEY"},
			{[]string{"ssh-ed25519 BBBB"}, ""},
		} {
			if err := r.engine.HostKeyPinned(r.t.Context(), i.ID, step.pinned); err != nil {
				r.t.Fatal(err)
			}
			now := r.instances(f)[0]
			expect(r.t, "pinned", now.HostKeys, step.pinned)
			expect(r.t, "private key", now.Machine.HostKey, step.private)
		}
		if !r.told("The machine made a host key of its own") {
			r.t.Errorf("events: %q", r.events())
		}
		r.clear(f)
	})
}
