package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

// volume makes a volume of 10 GB.
func (r *cloudRig) volume(name string, change ...func(*config.Volume)) {
	r.t.Helper()
	c := config.Volume{Type: "volume", Backend: fake.Type, Name: &name, Region: "region-1", Size: new(10.5)}
	for _, f := range change {
		f(&c)
	}
	if _, err := r.engine.CreateVolume(r.t.Context(), NewVolume{ProjectID: r.project, UserID: r.user, Configuration: c}); err != nil {
		r.t.Fatal(err)
	}
}

// newest is the newest volume of a name, also one that is deleted.
func (r *cloudRig) newest(name string) (out store.Volume) {
	r.t.Helper()
	read(r.t, r.st, func(tx *store.Tx) error {
		list, err := tx.Volumes(store.VolumeFilter{})
		for _, v := range list {
			if v.Name == name {
				out = v
				return nil
			}
		}
		return err
	})
	return out
}

func (r *cloudRig) dropVolume(name string) {
	r.t.Helper()
	if err := r.engine.DeleteVolumes(r.t.Context(), r.user, r.project, []string{name}); err != nil {
		r.t.Fatal(err)
	}
}

// diskTask submits a run that mounts volumes, and takes as long as it is told.
func (r *cloudRig) diskTask(name string, length time.Duration, volumes ...string) {
	r.t.Helper()
	r.hosts.fakeHosts.mu.Lock()
	r.hosts.length = length
	r.hosts.fakeHosts.mu.Unlock()
	r.task(name, func(c *config.Task) {
		for n, v := range volumes {
			c.Volumes = append(c.Volumes, config.Mount{Names: strings.Split(v, "|"), Path: fmt.Sprintf("/data%d", n)})
		}
	})
}

// run is a run with its newest job.
func (r *cloudRig) run(name string) (run store.Run, job store.Job) {
	r.t.Helper()
	read(r.t, r.st, func(tx *store.Tx) (err error) {
		if run, err = tx.RunByName(r.project, name); err != nil {
			return err
		}
		jobs, err := tx.LatestJobsByRun(run.ID)
		if err != nil || len(jobs) == 0 {
			return errors.Join(err, fmt.Errorf("run %s has %d jobs", name, len(jobs)))
		}
		job = jobs[len(jobs)-1]
		return nil
	})
	return run, job
}

// mounted are the volumes that the host of a run got.
func (r *cloudRig) mounted(name string) []hostapi.Volume {
	r.t.Helper()
	_, job := r.run(name)
	r.hosts.fakeHosts.mu.Lock()
	defer r.hosts.fakeHosts.mu.Unlock()
	return r.hosts.specs[job.ID].Volumes
}

func (r *cloudRig) expectRun(name string, want api.RunStatus) {
	r.t.Helper()
	run, job := r.run(name)
	if run.Status != want {
		r.t.Errorf("run %s is %s, want %s: %v %v", name, run.Status, want, job.Reason, deref(job.ReasonMessage))
	}
}

// volumeEvents are the messages about volumes, oldest first.
func (r *cloudRig) volumeEvents() (out []string) {
	r.t.Helper()
	read(r.t, r.st, func(tx *store.Tx) error {
		list, err := tx.Events(store.EventFilter{System: true, Page: store.Page{Limit: 1000, Ascending: true}})
		for _, e := range list {
			if e.Targets[0].Type == "volume" {
				out = append(out, e.Message)
			}
		}
		return err
	})
	return out
}

// TestCloudVolume keeps a volume from one machine to the next.
func TestCloudVolume(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		f := r.fleet(2, 2, 2)
		r.volume("data", func(c *config.Volume) { c.Tags = map[string]string{"team": "x"} })
		time.Sleep(time.Minute)
		v := r.newest("data")
		made := r.cloud.Volumes()
		if v.Status != api.VolumeActive || len(made) != 1 || made[0].SizeGB != 10 || v.Provisioning.VolumeID != made[0].ID ||
			*v.Provisioning.Price != 1 || *v.Provisioning.AvailabilityZone != "region-1a" || made[0].Token != v.Token {
			r.t.Errorf("volume %+v %+v in the cloud %+v", v, v.Provisioning, made)
		}
		r.diskTask("first", 10*time.Second, "data")
		time.Sleep(5 * time.Second)
		if at := r.cloud.Volumes()[0].Attached; len(at) != 1 {
			r.t.Errorf("while it is used it is attached to %v", at)
		}
		if err := r.engine.DeleteVolumes(r.t.Context(), r.user, r.project, []string{"data"}); err == nil {
			r.t.Error("a volume in use can be deleted")
		}
		want := hostapi.Volume{Name: "data", ID: made[0].ID, Device: "/dev/sdf", SizeGB: 10, Format: true, Target: "/data0"}
		expect(r.t, "the first host gets", r.mounted("first"), []hostapi.Volume{want})
		time.Sleep(20 * time.Second)
		r.expectRun("first", api.RunDone)
		if at := r.cloud.Volumes()[0].Attached; len(at) != 0 {
			r.t.Errorf("afterwards it is attached to %v", at)
		}
		_, job := r.run("first")
		read(r.t, r.st, func(tx *store.Tx) error {
			inst, err := tx.Instance(*job.UsedInstanceID)
			r.cloud.Kill(inst.Machine.ID)
			return err
		})
		time.Sleep(time.Minute)
		r.diskTask("second", 10*time.Second, "data")
		time.Sleep(time.Minute)
		r.expectRun("second", api.RunDone)
		want.Format = false
		expect(r.t, "the next host gets", r.mounted("second"), []hostapi.Volume{want})
		r.dropVolume("data")
		time.Sleep(10 * time.Second)
		if v := r.newest("data"); !v.Deleted || len(r.cloud.Volumes()) > 0 {
			r.t.Errorf("after its deletion: %+v, %+v", v, r.cloud.Volumes())
		}
		events := r.volumeEvents()
		for _, what := range []string{
			"Volume status changed SUBMITTED -> PROVISIONING", "Volume status changed PROVISIONING -> ACTIVE",
			"Volume attached to " + f.Name + "-", "Volume detached from " + f.Name + "-", "Volume deleted",
		} {
			if !slices.ContainsFunc(events, func(e string) bool { return strings.HasPrefix(e, what) }) {
				r.t.Errorf("no event %q in %q", what, events)
			}
		}
		r.clear(f)
	})
}

// TestVolumeInUse lets a job wait for the volume that another one uses.
func TestVolumeInUse(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		f := r.fleet(2, 2, 2)
		r.volume("data")
		time.Sleep(time.Minute)
		r.diskTask("first", 5*time.Minute, "data")
		time.Sleep(10 * time.Second)
		r.diskTask("second", 10*time.Second, "data")
		time.Sleep(4 * time.Minute)
		r.expectRun("second", api.RunSubmitted)
		if at := r.cloud.Volumes()[0].Attached; len(at) != 1 {
			r.t.Errorf("attached to %v", at)
		}
		time.Sleep(2 * time.Minute)
		r.expectRun("first", api.RunDone)
		r.expectRun("second", api.RunDone)
		r.dropVolume("data")
		r.clear(f)
	})
}

// TestVolumePinsMachine makes a machine where the volume is, and none for a job
// that has to wait for the volume.
func TestVolumePinsMachine(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{Boot: time.Minute}, func(r *cloudRig) {
		f := r.fleet(0, 0, 3)
		r.volume("data", func(c *config.Volume) { c.AvailabilityZone = new("region-1b") })
		time.Sleep(time.Minute)
		for _, name := range []string{"first", "second", "third"} {
			r.diskTask(name, 10*time.Second, "data")
		}
		r.diskTask("other", 10*time.Second)
		time.Sleep(30 * time.Second)
		if alive := r.cloud.Alive(); len(alive) != 2 {
			r.t.Errorf("machines for two of four jobs: %+v", alive)
		}
		time.Sleep(5 * time.Minute)
		for _, name := range []string{"first", "second", "third", "other"} {
			r.expectRun(name, api.RunDone)
			if _, job := r.run(name); name != "other" && deref(job.Provisioning.AvailabilityZone) != "region-1b" {
				r.t.Errorf("%s was in %s", name, deref(job.Provisioning.AvailabilityZone))
			}
		}
		expect(r.t, "machines in all", r.cloud.Calls("create"), 2)
		r.dropVolume("data")
		r.clear(f)
	})
}

// TestNodesWithVolumes gives each node its own volume, and refuses one for all.
func TestNodesWithVolumes(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{Boot: time.Minute}, func(r *cloudRig) {
		f := r.fleet(0, 0, 2, func(c *config.Fleet) { c.Placement = new(config.PlacementCluster) })
		r.volume("data-0")
		r.volume("data-1")
		time.Sleep(time.Minute)
		mounts := func(name string) func(*config.Task) {
			return func(c *config.Task) { c.Volumes = []config.Mount{{Names: []string{name}, Path: "/data"}} }
		}
		good := r.task("good", nodes(2), mounts("data-${{ dstack.node_rank }}"))
		bad := r.task("bad", nodes(2), mounts("data-0"))
		time.Sleep(3 * time.Minute)
		run, jobs := r.runOf(good.ID)
		if run.Status != api.RunDone || len(jobs) != 2 || jobs[0].Runtime.VolumeNames[0] != "data-0" || jobs[1].Runtime.VolumeNames[0] != "data-1" {
			r.t.Errorf("run is %s: %+v", run.Status, jobs)
		}
		if got := r.state(bad); !strings.HasSuffix(got, "volume_error: Volume data-0 cannot be mounted by more than one node") {
			r.t.Errorf("one volume for two nodes: %s", got)
		}
		r.dropVolume("data-0")
		r.dropVolume("data-1")
		r.clear(f)
	})
}

// TestVolumeCalls meets the faults of clouds.
func TestVolumeCalls(t *testing.T) {
	t.Parallel()
	fault := func(op string, kind backends.Kind, n int) fake.Fault {
		return fake.Fault{Op: op, Times: n, Err: backends.Error{Kind: kind, Message: "it is " + string(kind)}}
	}
	lost := func(op string) fake.Fault { return fake.Fault{Op: op, Times: 1, Lost: true} }
	for name, tt := range map[string]struct {
		faults []fake.Fault
		status api.VolumeStatus
		text   string // of the volume, if it fails, else of the run
	}{
		"every answer is lost": {
			[]fake.Fault{lost("create volume"), lost("attach volume"), lost("detach volume"), lost("delete volume"), lost("describe volume")}, api.VolumeActive, "",
		},
		"busy": {
			[]fake.Fault{
				fault("create volume", backends.Throttled, 3), fault("attach volume", backends.NotReady, 3),
				fault("detach volume", backends.NotReady, 3), fault("delete volume", backends.NotReady, 3),
			}, api.VolumeActive, "",
		},
		"no permission":          {[]fake.Fault{fault("create volume", backends.Permission, 0)}, api.VolumeFailed, "dstack region-1: it is permission"},
		"no permission later":    {[]fake.Fault{fault("create volume", backends.Transient, 1), fault("create volume", backends.Permission, 0)}, api.VolumeFailed, "dstack region-1: it is permission"},
		"not shown yet":          {[]fake.Fault{fault("attach volume", backends.NotFound, 1), fault("describe volume", backends.NotFound, 1)}, api.VolumeActive, ""},
		"cannot be attached":     {[]fake.Fault{fault("attach volume", backends.BadRequest, 0)}, api.VolumeActive, "Failed to attach volume data: dstack region-1: it is invalid request"},
		"is never attached":      {[]fake.Fault{fault("attach volume", backends.NotReady, 0)}, api.VolumeActive, "Failed to attach volume data: it was not attached within 600s: dstack region-1: it is not ready"},
		"attached, nobody knows": {[]fake.Fault{{Op: "attach volume", Lost: true, Err: backends.Error{Kind: backends.BadRequest, Message: "odd"}}}, api.VolumeActive, "Failed to attach volume data: dstack region-1: odd"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inCloud(t, fake.Config{}, func(r *cloudRig) {
				f := r.fleet(1, 1, 1)
				time.Sleep(30 * time.Second)
				for _, fault := range tt.faults {
					r.cloud.Inject(fault)
				}
				r.volume("data")
				time.Sleep(30 * time.Second)
				v := r.newest("data")
				if v.Status != tt.status || v.Status == api.VolumeFailed && deref(v.StatusMessage) != tt.text {
					r.t.Errorf("volume is %s: %s", v.Status, deref(v.StatusMessage))
				}
				if v.Status == api.VolumeActive {
					r.diskTask("run", 10*time.Second, "data")
					time.Sleep(12 * time.Minute)
					run, job := r.run("run")
					if failed := run.Status != api.RunDone; failed != (tt.text != "") || failed && deref(job.ReasonMessage) != tt.text {
						r.t.Errorf("run is %s: %s", run.Status, deref(job.ReasonMessage))
					}
				}
				if n := len(r.cloud.Volumes()); n != map[api.VolumeStatus]int{api.VolumeActive: 1}[tt.status] {
					r.t.Errorf("the cloud has %d volumes", n)
				}
				r.dropVolume("data")
				time.Sleep(5 * time.Minute)
				if v := r.newest("data"); !v.Deleted || len(r.cloud.Volumes()) > 0 {
					r.t.Errorf("after its deletion: %+v, %+v", v, r.cloud.Volumes())
				}
				r.clear(f)
			})
		})
	}
}

// TestVolumeAndCrash ends the server between each two steps of a volume's life;
// the next one goes on, with one volume.
func TestVolumeAndCrash(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		f := r.fleet(1, 1, 1)
		time.Sleep(30 * time.Second)
		crash := func() {
			time.Sleep(time.Millisecond) // it had begun
			r.stop()
			r.start()
		}
		for _, op := range []string{"create volume", "attach volume", "detach volume", "delete volume"} {
			r.cloud.Inject(fake.Fault{Op: op, Times: 1, Lost: true})
		}
		r.volume("data")
		crash()
		time.Sleep(10 * time.Second)
		crash()
		r.diskTask("run", 10*time.Second, "data")
		for range 3 {
			crash()
			time.Sleep(300 * time.Millisecond)
		}
		for len(r.cloud.Volumes()[0].Attached) > 0 || r.newest("data").LastUsedAt == nil {
			if _, job := r.run("run"); job.Task == nil || job.Status.Finished() { // these hosts forget tasks
				crash()
			}
			time.Sleep(500 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		r.expectRun("run", api.RunDone)
		if made := r.cloud.Volumes(); len(made) != 1 || len(made[0].Attached) > 0 {
			r.t.Errorf("the cloud has %+v", made)
		}
		r.dropVolume("data")
		for range 3 {
			crash()
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		if left := r.cloud.Volumes(); len(left) > 0 {
			r.t.Errorf("left are %+v", left)
		}
		r.clear(f)
	})
}

// TestVolumeOfLostMachine is free when its machine is gone.
func TestVolumeOfLostMachine(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		f := r.fleet(2, 2, 2)
		r.volume("data")
		time.Sleep(30 * time.Second)
		r.diskTask("first", 20*time.Minute, "data")
		time.Sleep(10 * time.Second)
		_, job := r.run("first")
		read(r.t, r.st, func(tx *store.Tx) error {
			inst, err := tx.Instance(*job.InstanceID)
			r.cloud.Kill(inst.Machine.ID)
			return err
		})
		time.Sleep(10 * time.Second)
		r.diskTask("second", 10*time.Second, "data")
		time.Sleep(5 * time.Minute)
		r.expectRun("second", api.RunDone)
		r.dropVolume("data")
		time.Sleep(time.Minute)
		r.clear(f)
	})
}

// TestVolumeOfAbortedStart stays where it is while the task of a job may use it
// that was aborted before its host had answered.
func TestVolumeOfAbortedStart(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		happens func(r *cloudRig, machine string)
		within  time.Duration
	}{
		"the task is removed":  {func(r *cloudRig, _ string) { r.hosts.keepTasks(false) }, 15 * time.Second},
		"the machine is ended": {func(r *cloudRig, machine string) { r.cloud.Kill(machine) }, 20 * time.Second},
		"by force":             {func(*cloudRig, string) {}, 35 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inCloud(t, fake.Config{}, func(r *cloudRig) {
				f := r.fleet(1, 1, 1)
				r.volume("data")
				time.Sleep(30 * time.Second)
				r.hosts.lose, r.hosts.keep = 1000, true
				r.diskTask("run", time.Minute, "data")
				time.Sleep(500 * time.Millisecond)
				if err := r.engine.StopRuns(r.t.Context(), r.user, r.project, []string{"run"}, true); err != nil {
					r.t.Fatal(err)
				}
				time.Sleep(30 * time.Second)
				r.expectRun("run", api.RunTerminated)
				if at := r.cloud.Volumes()[0].Attached; len(at) != 1 {
					r.t.Errorf("while the task is there, its volume is at %v", at)
				}
				tt.happens(r, r.cloud.Alive()[0].ID)
				time.Sleep(tt.within)
				if v := r.newest("data"); len(r.cloud.Volumes()[0].Attached) > 0 || v.LastUsedAt == nil {
					r.t.Errorf("afterwards it is at %v, last used %v", r.cloud.Volumes()[0].Attached, v.LastUsedAt)
				}
				r.hosts.keepTasks(false)
				r.dropVolume("data")
				time.Sleep(time.Minute)
				r.clear(f)
			})
		})
	}
}

// TestExternalVolume is used and left as it was; one that is not there fails.
func TestExternalVolume(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		f := r.fleet(1, 1, 1)
		mine, err := r.cloud.Open().CreateVolume(r.t.Context(), backends.VolumeSpec{Token: "mine", Region: "region-1", SizeGB: 7})
		if err != nil {
			r.t.Fatal(err)
		}
		r.volume("mine", func(c *config.Volume) { c.VolumeID, c.Size = &mine.ID, nil })
		r.volume("none", func(c *config.Volume) { c.VolumeID, c.Size = new("volume-99"), nil })
		time.Sleep(time.Minute)
		if v := r.newest("none"); v.Status != api.VolumeFailed || !strings.Contains(deref(v.StatusMessage), "volume-99 does not exist") {
			r.t.Errorf("one that is not there: %s %s", v.Status, deref(v.StatusMessage))
		}
		r.diskTask("run", 10*time.Second, "mine")
		time.Sleep(time.Minute)
		r.expectRun("run", api.RunDone)
		expect(r.t, "mounted", r.mounted("run"), []hostapi.Volume{{Name: "mine", ID: mine.ID, Device: "/dev/sdf", SizeGB: 7, Target: "/data0"}})
		r.dropVolume("mine")
		r.dropVolume("none")
		time.Sleep(time.Minute)
		if !r.newest("mine").Deleted || !r.newest("none").Deleted || len(r.cloud.Volumes()) != 1 {
			r.t.Errorf("afterwards the cloud has %+v", r.cloud.Volumes())
		}
		r.clear(f)
	})
}

// TestVolumeCleanup takes down what nobody used for long enough.
func TestVolumeCleanup(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		f := r.fleet(1, 1, 1)
		r.volume("data", func(c *config.Volume) { c.AutoCleanupDuration = new(600) })
		time.Sleep(9 * time.Minute)
		r.diskTask("run", 10*time.Second, "data")
		time.Sleep(9 * time.Minute)
		r.expectRun("run", api.RunDone)
		if r.newest("data").Deleted {
			r.t.Error("gone too early")
		}
		time.Sleep(3 * time.Minute)
		if !r.newest("data").Deleted || len(r.cloud.Volumes()) > 0 {
			r.t.Errorf("still there: %+v", r.cloud.Volumes())
		}
		r.clear(f)
	})
}

// TestVolumesOfZones takes the volume of the zone where the machine is.
func TestVolumesOfZones(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		f := r.fleet(1, 1, 1, func(c *config.Fleet) { c.AvailabilityZones = []string{"region-1b"} })
		for name, zone := range map[string]string{"a": "region-1a", "b": "region-1b"} {
			r.volume(name, func(c *config.Volume) { c.AvailabilityZone = &zone })
		}
		time.Sleep(time.Minute)
		r.diskTask("any", 10*time.Second, "a|b")
		time.Sleep(30 * time.Second)
		r.expectRun("any", api.RunDone)
		if got := r.mounted("any"); len(got) != 1 || got[0].Name != "b" {
			r.t.Errorf("mounted %+v", got)
		}
		r.diskTask("wrong", 10*time.Second, "a")
		time.Sleep(30 * time.Second)
		if _, job := r.run("wrong"); *job.Reason != api.ReasonNoCapacity || !strings.Contains(deref(job.ReasonMessage), "its volumes are in dstack region-1a") {
			r.t.Errorf("in another zone: %s %s", *job.Reason, deref(job.ReasonMessage))
		}
		r.dropVolume("a")
		r.dropVolume("b")
		time.Sleep(10 * time.Second)
		r.diskTask("gone", 10*time.Second, "a")
		time.Sleep(30 * time.Second)
		if _, job := r.run("gone"); *job.Reason != api.ReasonVolumeError || deref(job.ReasonMessage) != "Volume a not found" {
			r.t.Errorf("deleted: %s %s", *job.Reason, deref(job.ReasonMessage))
		}
		r.clear(f)
	})
}
