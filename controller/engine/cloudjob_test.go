package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// task submits a run of one command.
func (r *cloudRig) task(name string, change ...func(*config.Task)) store.Run {
	r.t.Helper()
	image := "alpine"
	c := config.Task{Type: "task", Commands: []string{"true"}, RunBase: config.RunBase{Image: &image}}
	for _, f := range change {
		f(&c)
	}
	spec := api.RunSpec{RunName: &name, Configuration: config.Run{Task: &c}}
	run, err := r.engine.SubmitRun(r.t.Context(), Submission{ProjectID: r.project, UserID: r.user, Spec: spec})
	if err != nil {
		r.t.Fatal(err)
	}
	return run
}

func retry(on ...string) func(*config.Task) {
	return func(c *config.Task) { c.Retry = &config.RetryPolicy{OnEvents: on, Duration: new(3600 * 24)} }
}

func nodes(n int) func(*config.Task) { return func(c *config.Task) { c.Nodes = &n } }

// runOf is the run with the newest submissions of its jobs.
func (r *cloudRig) runOf(id string) (run store.Run, jobs []store.Job) {
	r.t.Helper()
	read(r.t, r.st, func(tx *store.Tx) (err error) {
		if run, err = tx.Run(id); err != nil {
			return err
		}
		jobs, err = tx.LatestJobsByRun(id)
		return err
	})
	return run, jobs
}

// state is the status of a run and of its first job, with the job's reason and
// message.
func (r *cloudRig) state(run store.Run) string {
	r.t.Helper()
	now, jobs := r.runOf(run.ID)
	out := fmt.Sprintf("%s %s", now.Status, jobs[0].Status)
	if jobs[0].Reason != nil {
		out += " " + string(*jobs[0].Reason)
	}
	if text := deref(jobs[0].ReasonMessage); text != "" {
		out += ": " + text
	}
	return out
}

const done = "done done done_by_runner"

// TestJobMakesMachine rents a machine for a job, uses it again, and lets it go.
func TestJobMakesMachine(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{Boot: 20 * time.Second}, func(r *cloudRig) {
		f := r.fleet(0, 0, 2)
		r.hosts.reach, r.hosts.length = true, 2*time.Second
		run := r.task("one")
		time.Sleep(10 * time.Second)
		expect(r.t, "while it boots", r.state(run), "provisioning provisioning")
		_, jobs := r.runOf(run.ID)
		p := jobs[0].Provisioning
		if p.Hostname != nil || p.SSHPort != nil || p.Price != 0.1 || p.Region != "region-1" || p.Backend != fake.Type || p.InstanceType.Name != "small" || p.InstanceID != r.cloud.Alive()[0].ID {
			r.t.Errorf("provisioning: %+v", p)
		}
		expect(r.t, "instance", r.statuses(f), "provisioning")
		time.Sleep(20 * time.Second)
		expect(r.t, "afterwards", r.state(run), done)
		_, jobs = r.runOf(run.ID)
		if p := jobs[0].Provisioning; deref(p.Hostname) == "" || p.Username != "ubuntu" || *p.SSHPort != 22 || deref(p.AvailabilityZone) != "region-1a" || deref(p.InternalIP) == "" {
			r.t.Errorf("provisioning: %+v", p)
		}
		expect(r.t, "instance", r.statuses(f), "idle")
		i := r.instances(f)[0]
		expect(r.t, "wish", []any{i.Wish.JobID, i.Wish.User, i.Wish.IdleSeconds, i.Wish.Images}, []any{jobs[0].ID, "admin", 300, []string{"alpine"}})
		again := r.task("two")
		time.Sleep(5 * time.Second)
		expect(r.t, "on the same machine", r.state(again), done)
		expect(r.t, "machines", r.cloud.Calls("create"), 1)
		machine := r.cloud.Alive()[0].ID
		expect(r.t, "the steps of the run", r.eventsOf(run)[:12], []string{
			"Job created on run submission. Status: SUBMITTED",
			"Instance created for job. Instance status: PENDING",
			"Machine requested: dstack small in region-1 for $0.1 an hour",
			"Machine " + machine + " created: dstack small in region-1",
			"Job status changed SUBMITTED -> PROVISIONING",
			"Run status changed SUBMITTED -> PROVISIONING",
			"Machine " + machine + " has the address " + r.cloud.Alive()[0].Address,
			"SSH of machine " + machine + " answers after 0.0s",
			"The shim on machine " + machine + " answers after 0.0s",
			"Job status changed PROVISIONING -> PULLING",
			"Job status changed PULLING -> RUNNING",
			"Run status changed PROVISIONING -> RUNNING",
		})
		time.Sleep(6 * time.Minute)
		expect(r.t, "idle for too long", r.statuses(f), "")
		r.empty()
		r.clear(f)
	})
}

// eventsOf are the messages about a run and what is within it, oldest first.
func (r *cloudRig) eventsOf(run store.Run) (out []string) {
	r.t.Helper()
	read(r.t, r.st, func(tx *store.Tx) error {
		list, err := tx.Events(store.EventFilter{WithinRuns: []string{run.ID}, System: true, Page: store.Page{Limit: 1000, Ascending: true}})
		for _, e := range list {
			out = append(out, e.Message)
		}
		return err
	})
	return out
}

func (r *cloudRig) allEvents() (out []string) {
	r.t.Helper()
	read(r.t, r.st, func(tx *store.Tx) error {
		list, err := tx.Events(store.EventFilter{Page: store.Page{Limit: 1000, Ascending: true}})
		for _, e := range list {
			out = append(out, e.Message)
		}
		return err
	})
	return out
}

// TestJobsMakeNoMoreThanNeeded lets several jobs wait at the same time.
func TestJobsMakeNoMoreThanNeeded(t *testing.T) {
	t.Parallel()
	boot := fake.Config{Boot: 20 * time.Second}
	inCloud(t, boot, func(r *cloudRig) {
		f := r.fleet(0, 0, 8)
		r.hosts.length = time.Minute
		var runs []store.Run
		for n := range 3 {
			runs = append(runs, r.task(fmt.Sprint("run-", n)))
		}
		time.Sleep(3 * time.Minute)
		for _, run := range runs {
			expect(r.t, run.Name, r.state(run), done)
		}
		expect(r.t, "machines", r.cloud.Calls("create"), 3)
		r.clear(f)
	})
	inCloud(t, boot, func(r *cloudRig) {
		// What the fleet has made anyway is taken first.
		f := r.fleet(1, 1, 3)
		a, b := r.task("a"), r.task("b")
		time.Sleep(2 * time.Minute)
		expect(r.t, "a", r.state(a), done)
		expect(r.t, "b", r.state(b), done)
		expect(r.t, "machines", r.cloud.Calls("create"), 2)
		r.clear(f)
	})
	inCloud(t, boot, func(r *cloudRig) {
		// A fleet does not grow over its limit, whoever asks at the same time.
		f := r.fleet(0, 0, 1)
		r.hosts.length = time.Minute
		a := r.task("a")
		time.Sleep(time.Millisecond)
		b, c := r.task("b", retry(config.RetryNoCapacity)), r.task("c")
		time.Sleep(10 * time.Second)
		expect(r.t, "machines", len(r.cloud.Alive()), 1)
		expect(r.t, "without retry", r.state(c), "failed failed failed_to_start_due_to_no_capacity: "+noFleets+" ("+f.Name+": the fleet may have no more machines)")
		time.Sleep(5 * time.Minute)
		expect(r.t, "a", r.state(a), done)
		expect(r.t, "b", r.state(b), done)
		expect(r.t, "machines in all", r.cloud.Calls("create"), 1)
		r.clear(f)
	})
}

// TestNoMachineForJob ends a job for which there is no machine, with a sentence
// that says why, and tries again if the run wants that.
func TestNoMachineForJob(t *testing.T) {
	t.Parallel()
	const lack = "failed failed failed_to_start_due_to_no_capacity: "
	big := func(c *config.Task) {
		c.Resources = config.Resources{CPU: config.CPU{Count: config.Range[int]{Min: ptr(500)}}}
	}
	for name, c := range map[string]struct {
		fault  *fake.Fault
		change func(*config.Task)
		text   string
	}{
		"no capacity": {fault: ptr(refusal(backends.NoCapacity)), text: "Failed to provision in fleet 'FLEET': All offers failed: small, large, gpu and 1 more: dstack region-1: no capacity. Allow more `regions` and"},
		"quota":       {fault: ptr(refusal(backends.Quota)), text: "Failed to provision in fleet 'FLEET': All offers failed: small, large, gpu and 1 more: dstack region-1: quota"},
		"wrong key":   {fault: &fake.Fault{Op: "offers", Err: backends.Error{Kind: backends.Auth, Message: "the key is wrong", Field: []string{"creds", "access_key"}}}, text: "No offers matching the run requirements in fleet 'FLEET' (FLEET: dstack: its offers are missing: dstack: the key is wrong (creds.access_key))"},
		"missing permission": {
			fault: &fake.Fault{Op: "create", Err: backends.Error{Kind: backends.Permission, Message: "not allowed", Permission: "ec2:RunInstances"}},
			text:  "Failed to provision in fleet 'FLEET': All offers failed: small: dstack region-1: not allowed (the permission ec2:RunInstances is missing)",
		},
		"no such subnet": {
			fault: &fake.Fault{Op: "create", Err: backends.Error{Kind: backends.Config, Message: "subnet subnet-1 does not exist", Field: []string{"vpc_ids"}, Remedy: "Correct it in config.yml"}},
			text:  "Failed to provision in fleet 'FLEET': All offers failed: small: dstack region-1: subnet subnet-1 does not exist (vpc_ids). Correct it in config.yml",
		},
		"clock off": {
			fault: &fake.Fault{Op: "offers", Err: backends.Error{Kind: backends.Auth, Message: "this server's clock is wrong", Remedy: "Set the clock"}},
			text:  "No offers matching the run requirements in fleet 'FLEET' (FLEET: dstack: its offers are missing: dstack: this server's clock is wrong. Set the clock",
		},
		"user-data rejected": {
			fault: ptr(refusal(backends.BadRequest)), text: "Failed to provision in fleet 'FLEET': All offers failed: small, large, gpu and 1 more: dstack region-1: invalid request",
		},
		"too big":    {change: big, text: "No offers matching the run requirements in fleet 'FLEET' (FLEET: none of 8 offers will do"},
		"reuse only": {change: func(c *config.Task) { c.CreationPolicy = ptr(config.CreationReuse) }, text: "Could not reuse any instance for this job"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inCloud(t, fake.Config{}, func(r *cloudRig) {
				if c.fault != nil {
					r.cloud.Inject(*c.fault)
				}
				f := r.fleet(0, 0, 2)
				var changes []func(*config.Task)
				if c.change != nil {
					changes = append(changes, c.change)
				}
				run := r.task("run", changes...)
				time.Sleep(time.Minute)
				want := lack + strings.ReplaceAll(c.text, "FLEET", f.Name)
				if got := r.state(run); !strings.HasPrefix(got, want) {
					r.t.Errorf("got  %s\nwant %s", got, want)
				}
				if text := strings.Join(r.allEvents(), "\n"); !strings.Contains(text, strings.ReplaceAll(c.text, "FLEET", f.Name)) {
					r.t.Errorf("no event says it: %s", text)
				}
				expect(r.t, "instances", r.statuses(f), "")
				r.empty()
				again := r.task("again", append(changes, retry(config.RetryNoCapacity))...)
				time.Sleep(time.Minute)
				r.cloud.Heal()
				time.Sleep(30 * time.Minute)
				if c.fault != nil {
					expect(r.t, "in the end", r.state(again), done)
				} else if err := r.engine.StopRuns(r.t.Context(), r.user, r.project, []string{"again"}, false); err != nil {
					r.t.Error(err)
				}
				time.Sleep(time.Minute)
				r.clear(f)
			})
		})
	}
}

// TestStopWhileMachineIsMade stops a run at every moment: its machine goes or
// becomes idle, and goes then.
func TestStopWhileMachineIsMade(t *testing.T) {
	t.Parallel()
	for n := range 16 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			inCloud(t, fake.Config{Boot: 4 * time.Second, Hidden: time.Duration(n%3) * 5 * time.Second}, func(r *cloudRig) {
				r.cloud.Inject(fake.Fault{Op: "create", Lost: true, Times: n % 4})
				f := r.fleet(0, 0, 2)
				run := r.task("run")
				time.Sleep(time.Duration(n) * 500 * time.Millisecond)
				if err := r.engine.StopRuns(r.t.Context(), r.user, r.project, []string{"run"}, n%2 == 0); err != nil {
					r.t.Fatal(err)
				}
				time.Sleep(7 * time.Minute)
				if now, _ := r.runOf(run.ID); !now.Status.Finished() {
					r.t.Errorf("the run is %s", r.state(run))
				}
				time.Sleep(2 * time.Minute)
				expect(r.t, "instances", r.statuses(f), "")
				r.empty()
				r.clear(f)
			})
		})
	}
}

// TestSpotTakenBack ends a job whose machine is taken back, and goes on
// elsewhere if the run wants that.
func TestSpotTakenBack(t *testing.T) {
	t.Parallel()
	spot := func(c *config.Task) { c.SpotPolicy = new(config.SpotPolicySpot) }
	inCloud(t, fake.Config{Boot: 5 * time.Second, Shown: time.Hour}, func(r *cloudRig) {
		f := r.fleet(0, 0, 2, func(c *config.Fleet) { c.SpotPolicy = new(config.SpotPolicyAuto) })
		r.hosts.length = 5 * time.Minute
		once := r.task("once", spot)
		time.Sleep(time.Minute)
		again := r.task("again", spot, retry(config.RetryInterruption))
		time.Sleep(time.Minute)
		expect(r.t, "before", r.state(again), "running running")
		for _, m := range r.cloud.Alive() {
			r.cloud.Reclaim(m.ID)
		}
		time.Sleep(time.Minute)
		expect(r.t, "without retry", r.state(once), "failed failed interrupted_by_no_capacity: The cloud took the spot machine back: reclaimed")
		time.Sleep(10 * time.Minute)
		expect(r.t, "with retry", r.state(again), done)
		expect(r.t, "machines", r.cloud.Calls("create"), 3)
		r.clear(f)
	})
}

// TestMachineNeverBoots ends the job with its machine.
func TestMachineNeverBoots(t *testing.T) {
	t.Parallel()
	first := true
	cfg := fake.Config{Pace: func(backends.MachineSpec) fake.Pace {
		p := fake.Pace{}
		if first {
			p.Boot = time.Hour
		}
		first = false
		return p
	}}
	inCloud(t, cfg, func(r *cloudRig) {
		f := r.fleet(0, 0, 2)
		run := r.task("run", retry(config.RetryError))
		time.Sleep(9 * time.Minute)
		expect(r.t, "before", r.state(run), "provisioning provisioning")
		time.Sleep(5 * time.Minute)
		text := strings.Join(r.allEvents(), "\n")
		const want = "Job status changed PROVISIONING -> TERMINATING. Termination reason: WAITING_INSTANCE_LIMIT_EXCEEDED (The machine was not ready within 600s)"
		if !strings.Contains(text, want) {
			r.t.Errorf("no event says %q: %s", want, text)
		}
		expect(r.t, "with retry", r.state(run), done)
		r.clear(f)
	})
}

// TestGangMakesMachines puts all nodes side by side, and starts none before all
// have an address.
func TestGangMakesMachines(t *testing.T) {
	t.Parallel()
	slow := 0
	cfg := fake.Config{Regions: []string{"region-1", "region-2"}, Pace: func(backends.MachineSpec) fake.Pace {
		slow++
		return fake.Pace{Boot: time.Duration(slow) * 20 * time.Second}
	}}
	inCloud(t, cfg, func(r *cloudRig) {
		r.cloud.Inject(times(refusal(backends.NoCapacity), 1))
		f := r.fleet(0, 0, 4, func(c *config.Fleet) { c.Placement = new(config.PlacementCluster) })
		solo := r.task("solo")
		time.Sleep(time.Minute)
		expect(r.t, "solo", r.state(solo), done)
		gang := r.task("gang", nodes(3))
		time.Sleep(30 * time.Second)
		_, jobs := r.runOf(gang.ID)
		for _, j := range jobs {
			expect(r.t, "a node while the last one boots", j.Status, api.JobProvisioning)
		}
		time.Sleep(time.Minute)
		expect(r.t, "gang", r.state(gang), done)
		expect(r.t, "machines", len(r.cloud.Alive()), 3)
		for _, i := range r.instances(f) {
			expect(r.t, "place", i.Region+" "+i.Machine.Zone, "region-2 region-2a")
		}
		for _, j := range jobs {
			spec := r.hosts.specs[j.ID].Job
			if len(spec.NodesIPs) != 3 || strings.Contains(strings.Join(spec.NodesIPs, ","), ",,") || spec.NodesIPs[0] == "" || spec.NodesIPs[2] == "" {
				r.t.Errorf("addresses: %q", spec.NodesIPs)
			}
		}
		r.clear(f)
	})
}

// TestGangLacksOne gives the others' machines back if one node cannot have one.
func TestGangLacksOne(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{Boot: 20 * time.Second, Capacity: 1}, func(r *cloudRig) {
		f := r.fleet(0, 0, 8, func(c *config.Fleet) {
			c.Placement, c.InstanceTypes = new(config.PlacementCluster), []string{"small", "large"}
		})
		run := r.task("run", nodes(3))
		time.Sleep(10 * time.Second)
		now, jobs := r.runOf(run.ID)
		expect(r.t, "run", now.Status, api.RunFailed)
		lacking := 0
		for _, j := range jobs {
			if j.Reason != nil && *j.Reason == api.ReasonNoCapacity {
				lacking++
			}
		}
		expect(r.t, "nodes without a machine", lacking > 0, true)
		time.Sleep(10 * time.Minute)
		expect(r.t, "instances", r.statuses(f), "")
		r.empty()
		r.clear(f)
	})
}

// TestGangNeverFits lets a run end for which there never is room for all, though
// for some each time: it asks later and later, and not for ever.
func TestGangNeverFits(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{Boot: 20 * time.Second, Capacity: 1}, func(r *cloudRig) {
		f := r.fleet(0, 0, 8, func(c *config.Fleet) {
			c.Placement, c.InstanceTypes = new(config.PlacementCluster), []string{"small", "large"}
		})
		run := r.task("run", nodes(3), retry(config.RetryNoCapacity), func(c *config.Task) { c.Retry.Duration = new(3600) })
		time.Sleep(2 * time.Hour)
		now, _ := r.runOf(run.ID)
		if now.Reason == nil || *now.Reason != api.ReasonRetryLimitExceeded {
			r.t.Errorf("the run is %s", now.Status)
		}
		if n := r.cloud.Calls("create"); n > 60 {
			r.t.Errorf("%d machines were asked for", n)
		}
		expect(r.t, "instances", r.statuses(f), "")
		r.empty()
		expect(r.t, "run", now.Status, api.RunFailed)
		r.clear(f)
	})
}

// TestMachinesNeverBoot lets a run end whose machines never come up, though it is
// tried again after errors: each of them costs money.
func TestMachinesNeverBoot(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{Boot: 1000 * time.Hour}, func(r *cloudRig) {
		f := r.fleet(0, 0, 1)
		run := r.task("run", retry(config.RetryError), func(c *config.Task) { c.Retry.Duration = new(3600) })
		time.Sleep(3 * time.Hour)
		now, _ := r.runOf(run.ID)
		expect(r.t, "run", now.Status, api.RunFailed)
		if now.Reason == nil || *now.Reason != api.ReasonRetryLimitExceeded {
			r.t.Errorf("the reason is %v", now.Reason)
		}
		if n := r.cloud.Calls("create"); n < 2 || n > 7 {
			r.t.Errorf("%d machines were asked for", n)
		}
		r.empty()
		r.clear(f)
	})
}

// TestClaimedMachineFails lets a job look again when the machine that it
// claimed, and that was made for its fleet, cannot be had.
func TestClaimedMachineFails(t *testing.T) {
	t.Parallel()
	never := true
	cfg := fake.Config{Pace: func(backends.MachineSpec) fake.Pace {
		p := fake.Pace{}
		if never {
			p.Boot = time.Hour
		}
		never = false
		return p
	}}
	inCloud(t, cfg, func(r *cloudRig) {
		r.cloud.Inject(times(refusal(backends.Transient), 3))
		f := r.fleet(1, 1, 2)
		time.Sleep(time.Second)
		run := r.task("run", retry(config.RetryError))
		time.Sleep(time.Second)
		expect(r.t, "claimed", r.state(run), "submitted submitted")
		_, jobs := r.runOf(run.ID)
		expect(r.t, "instance", jobs[0].InstanceID != nil && *jobs[0].InstanceID == r.instances(f)[0].ID, true)
		time.Sleep(20 * time.Minute)
		expect(r.t, "in the end", r.state(run), done)
		r.clear(f)
	})
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		r.cloud.Inject(times(refusal(backends.Transient), 1))
		r.cloud.Inject(times(refusal(backends.NoCapacity), 1))
		f := r.fleet(1, 1, 2, func(c *config.Fleet) { c.InstanceTypes = []string{"small"} })
		time.Sleep(100 * time.Millisecond)
		run := r.task("run")
		time.Sleep(100 * time.Millisecond)
		_, jobs := r.runOf(run.ID)
		expect(r.t, "claimed", jobs[0].InstanceID != nil, true)
		time.Sleep(5 * time.Minute)
		expect(r.t, "on the one that the fleet got instead", r.state(run), done)
		r.clear(f)
	})
}

// TestServiceGrows rents a machine for each replica, and gives back what is
// not needed any more.
func TestServiceGrows(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{Boot: 10 * time.Second}, func(r *cloudRig) {
		f := r.fleet(0, 0, 4)
		r.hosts.length = 24 * time.Hour
		service := func(replicas int) api.RunSpec {
			name, image := "web", "alpine"
			return api.RunSpec{RunName: &name, Configuration: config.Run{Service: &config.Service{
				Type: "service", Commands: []string{"serve"}, RunBase: config.RunBase{Image: &image},
				Port: config.PortMapping{ContainerPort: 80}, Replicas: &config.Range[int]{Min: &replicas, Max: &replicas},
			}}}
		}
		run, err := r.engine.SubmitRun(r.t.Context(), Submission{ProjectID: r.project, UserID: r.user, Spec: service(2)})
		if err != nil {
			r.t.Fatal(err)
		}
		time.Sleep(time.Minute)
		expect(r.t, "two", []any{r.state(run), len(r.cloud.Alive())}, []any{"running running", 2})
		if err := r.engine.StopRuns(r.t.Context(), r.user, r.project, []string{"web"}, true); err != nil {
			r.t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		expect(r.t, "machines in the end", len(r.cloud.Alive()), 0)
		r.clear(f)
	})
}
