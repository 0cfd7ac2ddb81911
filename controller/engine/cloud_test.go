package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/clouds"
	"dstack/controller/hosts"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

// cloudHosts are hosts that answer as long as their machine lives.
type cloudHosts struct {
	*fakeHosts
	mu     sync.Mutex
	alive  map[string]bool // by address
	wanted map[string]hosts.Target
	late   bool // nothing answers
	// claimed hosts belong to another server.
	claimed bool
	// reach tells that SSH answers, too.
	reach bool
}

func (h *cloudHosts) Ensure(t hosts.Target) {
	h.mu.Lock()
	h.wanted[t.InstanceID] = t
	alive, claimed := h.alive[t.Access.Host] && !h.late, h.claimed
	h.mu.Unlock()
	if alive && claimed {
		h.down(t.InstanceID, &hostapi.Problem{Code: hostapi.CodeClaimed, Message: "it belongs to another server", Remedy: "look"})
		return
	}
	if alive && h.reach {
		h.wg.Go(func() {
			if err := h.engine.HostReached(context.Background(), t.InstanceID); err != nil {
				panic(err)
			}
			h.fakeHosts.Ensure(t)
		})
		return
	}
	if alive {
		h.fakeHosts.Ensure(t)
	}
}

func (h *cloudHosts) Forget(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.wanted, id)
}

func (h *cloudHosts) started(m backends.Machine, _ string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alive[m.Address] = true
}

func (h *cloudHosts) ended(m backends.Machine) {
	h.mu.Lock()
	delete(h.alive, m.Address)
	var lost []string
	for id, t := range h.wanted {
		if t.Access.Host == m.Address {
			lost = append(lost, id)
		}
	}
	h.mu.Unlock()
	for _, id := range lost {
		h.down(id, &hostapi.Problem{Code: "unreachable", Message: "no route", Remedy: "look"})
	}
}

func (h *cloudHosts) down(id string, problem *hostapi.Problem) {
	h.wg.Go(func() {
		if err := h.engine.HostDown(context.Background(), id, problem); err != nil {
			panic(err)
		}
	})
}

func (h *cloudHosts) belongElsewhere(yes bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.claimed = yes
}

// cloudRig is an engine with a project whose backend is a fake cloud.
type cloudRig struct {
	t             *testing.T
	st            *store.Store
	cloud         *fake.Cloud
	hosts         *cloudHosts
	engine        *Engine
	user, project string
	// tag is the server's, copied when its database came from elsewhere.
	tag    string
	copied time.Time
	// tries is how many offers are asked for; 0 means the usual.
	tries int
	stop  func()
}

// inCloud runs a test in a bubble, and looks at the end that nothing is left.
func inCloud(t *testing.T, cfg fake.Config, test func(r *cloudRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &cloudRig{t: t, user: uuid.NewString(), project: uuid.NewString(), tag: "server"}
		r.hosts = &cloudHosts{fakeHosts: newFakeHosts(), alive: map[string]bool{}, wanted: map[string]hosts.Target{}}
		cfg.Now, cfg.Started, cfg.Ended = time.Now, r.hosts.started, r.hosts.ended
		r.cloud = fake.New(cfg)
		var err error
		if r.st, err = store.Open(t.Context(), store.Options{Memory: true}); err != nil {
			t.Fatal(err)
		}
		write(t, r.st, func(tx *store.Tx) error {
			return errors.Join(
				tx.InsertUser(&store.User{ID: r.user, Name: "admin", GlobalRole: "admin", Active: true}),
				tx.InsertProject(&store.Project{ID: r.project, Name: "main", OwnerID: r.user, PublicKey: "ssh-ed25519 AAAA project\n", PrivateKey: "PEM"}),
				tx.InsertBackend(&store.Backend{ID: uuid.NewString(), ProjectID: r.project, Type: fake.Type, Spec: []byte("{}")}))
		})
		r.start()
		time.Sleep(time.Second) // what is asked for now was not asked for by another server
		test(r)
		r.stop()
		if err := r.st.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// start is a server that begins.
func (r *cloudRig) start() {
	accounts := clouds.New(clouds.Options{
		Store: r.st, Drivers: map[string]backends.Driver{fake.Type: fake.Driver{Cloud: r.cloud}}, Now: time.Now, Log: zerolog.Nop(),
		Report:  func(backends.Call, time.Duration, backends.Kind) {},
		Arrived: func(project string) { r.engine.OffersArrived(project) },
	})
	r.engine = New(Config{
		Store: r.st, Hosts: r.hosts, Clouds: accounts, ServerID: r.tag, CopiedAt: r.copied, Now: time.Now, NewID: uuid.NewString, Log: zerolog.Nop(),
		NewHostKey: func() (string, string, error) { return "PRIVATE KEY", "ssh-ed25519 AAAA", nil }, MostTries: r.tries,
	})
	r.hosts.engine = r.engine
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.engine.Run(ctx) }()
	r.stop = func() {
		cancel()
		r.hosts.wg.Wait()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
		accounts.Close()
	}
}

// fleet makes a cloud fleet.
func (r *cloudRig) fleet(low, target, most int, change ...func(*config.Fleet)) store.Fleet {
	r.t.Helper()
	c := config.Fleet{Type: "fleet", Nodes: &config.FleetNodes{Min: low, Target: target, Max: &most}, Blocks: config.Blocks{Count: 1}}
	for _, f := range change {
		f(&c)
	}
	f, err := r.engine.CreateFleet(r.t.Context(), NewFleet{ProjectID: r.project, ActorID: &r.user, Spec: api.FleetSpec{Configuration: c}})
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

func idleFor(d time.Duration) func(*config.Fleet) {
	return func(c *config.Fleet) { c.IdleDuration = new(int(d / time.Second)) }
}

// instances of a fleet that are not deleted, by number.
func (r *cloudRig) instances(f store.Fleet) (list []store.Instance) {
	r.t.Helper()
	read(r.t, r.st, func(tx *store.Tx) (err error) {
		list, err = tx.InstancesOfFleet(f.ID)
		return err
	})
	return list
}

// statuses are those of a fleet's instances.
func (r *cloudRig) statuses(f store.Fleet) string {
	r.t.Helper()
	var out []string
	for _, i := range r.instances(f) {
		out = append(out, string(i.Status))
	}
	return strings.Join(out, " ")
}

// events are the messages about instances, oldest first.
func (r *cloudRig) events() (out []string) {
	r.t.Helper()
	read(r.t, r.st, func(tx *store.Tx) error {
		list, err := tx.Events(store.EventFilter{System: true, Page: store.Page{Limit: 1000, Ascending: true}})
		for _, e := range list {
			if e.Targets[0].Type == "instance" {
				out = append(out, e.Message)
			}
		}
		return err
	})
	return out
}

func (r *cloudRig) told(what string) bool {
	return slices.ContainsFunc(r.events(), func(e string) bool { return strings.Contains(e, what) })
}

// clear deletes a fleet and sees that nothing is left of it.
func (r *cloudRig) clear(f store.Fleet) {
	r.t.Helper()
	if err := r.engine.DeleteFleets(r.t.Context(), r.user, r.project, []string{f.Name}); err != nil {
		r.t.Fatal(err)
	}
	time.Sleep(3 * time.Minute)
	r.empty()
	read(r.t, r.st, func(tx *store.Tx) error {
		keys, err := tx.AllWork()
		expect(r.t, "work that is left", keys, []store.Key{})
		return err
	})
}

// empty sees that the cloud has nothing, and that the database knows that.
func (r *cloudRig) empty() {
	r.t.Helper()
	if alive := r.cloud.Alive(); len(alive) > 0 {
		r.t.Errorf("the cloud still has %+v", alive)
	}
	read(r.t, r.st, func(tx *store.Tx) error {
		list, err := tx.Machines()
		if len(list) > 0 {
			r.t.Errorf("the database still has %s %s %+v", list[0].Name, list[0].Status, list[0].Machine)
		}
		return err
	})
}

func refusal(kind backends.Kind) fake.Fault {
	return fake.Fault{Op: "create", Err: backends.Error{Kind: kind, Message: string(kind)}}
}

func times(f fake.Fault, n int) fake.Fault {
	f.Times = n
	return f
}

// TestNodes rents the machines of a fleet and gives them back.
func TestNodes(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{Boot: 20 * time.Second, Stop: 30 * time.Second, Shown: time.Minute}, func(r *cloudRig) {
		f := r.fleet(2, 2, 2)
		time.Sleep(10 * time.Second)
		expect(r.t, "while they boot", r.statuses(f), "provisioning provisioning")
		time.Sleep(30 * time.Second)
		expect(r.t, "afterwards", r.statuses(f), "idle idle")
		for _, i := range r.instances(f) {
			if i.Type.Name != "small" || i.Price != 0.1 || i.Region != "region-1" || i.TotalBlocks != 1 || i.Access.User != "ubuntu" ||
				i.Access.Keys[0] != "PEM" || i.HostKeys[0] != "ssh-ed25519 AAAA" || i.Access.Host == "" || *i.InternalIP == "" {
				r.t.Errorf("an instance is %+v", i)
			}
		}
		alive := r.cloud.Alive()
		if len(alive) != 2 || alive[0].Tags[backends.TagServer] != "server" || alive[0].Tags[backends.TagProject] != "main" ||
			!strings.HasPrefix(alive[0].Name, "dstack-main-"+f.Name+"-") {
			r.t.Errorf("machines: %+v", alive)
		}
		if data := r.cloud.UserData(alive[0].ID); !strings.Contains(data, "ssh-ed25519 AAAA project") {
			r.t.Errorf("user-data: %s", data)
		}
		for _, what := range []string{
			"Machine requested: dstack small in region-1 for $0.1 an hour", "created: dstack small in region-1", "has the address 192.0.2.",
			"Instance status changed PENDING -> PROVISIONING", "Instance status changed PROVISIONING -> IDLE",
		} {
			if !r.told(what) {
				r.t.Errorf("no event says %q: %q", what, r.events())
			}
		}
		if err := r.engine.DeleteFleets(r.t.Context(), r.user, r.project, []string{f.Name}); err != nil {
			r.t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		expect(r.t, "while they stop", r.statuses(f), "terminating terminating")
		time.Sleep(2 * time.Minute)
		r.empty()
	})
}

// TestNodesOfCluster puts them all where the first one is.
func TestNodesOfCluster(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{Regions: []string{"region-1", "region-2"}}, func(r *cloudRig) {
		r.cloud.Inject(times(refusal(backends.NoCapacity), 1))
		f := r.fleet(3, 3, 3, func(c *config.Fleet) { c.Placement = new(config.PlacementCluster) })
		time.Sleep(time.Minute)
		expect(r.t, "nodes", r.statuses(f), "idle idle idle")
		for _, i := range r.instances(f) {
			if i.Region != "region-2" || i.Machine.Zone != "region-2a" {
				r.t.Errorf("%s is in %s %s", i.Name, i.Region, i.Machine.Zone)
			}
		}
		r.clear(f)
	})
}

// TestPlacementGroup puts the machines of a cluster into one group, which goes
// with the fleet.
func TestPlacementGroup(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{Stop: 10 * time.Second}, func(r *cloudRig) {
		f := r.fleet(2, 2, 2, func(c *config.Fleet) {
			c.Placement, c.InstanceTypes = new(config.PlacementCluster), []string{"large"}
		})
		time.Sleep(time.Minute)
		expect(r.t, "nodes", r.statuses(f), "idle idle")
		want := "dstack-main-" + f.Name + "-" + f.ID[len(f.ID)-8:]
		expect(r.t, "groups", r.cloud.Groups(), []string{"region-1/" + want})
		for _, i := range r.instances(f) {
			expect(r.t, "group", i.Machine.PlacementGroup, want)
		}
		r.clear(f)
		expect(r.t, "groups that are left", len(r.cloud.Groups()), 0)
	})
	inCloud(t, fake.Config{}, func(r *cloudRig) { // "small" cannot be in one
		f := r.fleet(1, 1, 1, func(c *config.Fleet) { c.Placement = new(config.PlacementCluster) })
		time.Sleep(time.Minute)
		expect(r.t, "node", r.statuses(f), "idle")
		expect(r.t, "groups", len(r.cloud.Groups()), 0)
		r.cloud.Inject(fake.Fault{Op: "delete placement group", Err: backends.Error{Kind: backends.Permission, Message: "not allowed"}})
		r.clear(f)
	})
}

// TestReservation rents what was reserved, or says why not.
func TestReservation(t *testing.T) {
	t.Parallel()
	reserve := func(id string) func(*config.Fleet) { return func(c *config.Fleet) { c.Reservation = &id } }
	for id, want := range map[string]string{
		"cr-1": "idle", "cr-2": "No offers found: reservation cr-2 has no room for another machine",
		"cr-3": "No offers found: reservation cr-3 was found in no backend of the project",
		"cr-4": "No offers found: reservation cr-4 is for p5e.48xlarge in region-2, which is not offered because it has no price: name one in the catalogue (DSTACK_SERVER_CATALOG)",
	} {
		inCloud(t, fake.Config{Regions: []string{"region-1", "region-2"}}, func(r *cloudRig) {
			r.cloud.Inject(fake.Fault{Op: "find reservation", Times: 2, Err: backends.Error{Kind: backends.Transient}})
			r.cloud.Reserve(backends.Reservation{ID: "cr-1", Region: "region-2", Zone: "region-2b", Type: "gpu", Free: 1})
			r.cloud.Reserve(backends.Reservation{ID: "cr-2", Region: "region-2", Zone: "region-2b", Type: "gpu"})
			r.cloud.Reserve(backends.Reservation{ID: "cr-4", Region: "region-2", Zone: "region-2b", Type: "p5e.48xlarge", Free: 1})
			f := r.fleet(0, 1, 1, reserve(id))
			time.Sleep(50 * time.Second)
			i := r.instances(f)[0]
			if i.ReasonMessage != nil {
				expect(r.t, "message", *i.ReasonMessage, want)
			} else {
				expect(r.t, "status", string(i.Status), want)
				expect(r.t, "machine", i.Machine.Zone+" "+i.Type.Name+" "+i.Machine.Reservation, "region-2b gpu cr-1")
			}
			r.clear(f)
		})
	}
}

// TestFleetChanged replaces what the fleet would not rent any more.
func TestFleetChanged(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		f := r.fleet(2, 2, 2)
		time.Sleep(2 * time.Minute)
		expect(r.t, "before", r.statuses(f), "idle idle")
		spec := f.Spec
		spec.Configuration.InstanceTypes = []string{"large"}
		read(r.t, r.st, func(tx *store.Tx) (err error) {
			f, err = tx.Fleet(f.ID)
			return err
		})
		if _, err := r.engine.UpdateFleet(r.t.Context(), FleetUpdate{ActorID: r.user, FleetID: f.ID, Version: f.Version, Spec: spec}); err != nil {
			r.t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		expect(r.t, "afterwards", r.statuses(f), "idle idle")
		for _, i := range r.instances(f) {
			expect(r.t, "type", i.Type.Name, "large")
		}
		if !r.told("Termination reason: FLEET_SPEC_MISMATCH (small in region-1: instance types large are asked for)") {
			r.t.Errorf("events: %q", r.events())
		}
		r.clear(f)
	})
}

// TestNodeFaults lets a cloud fail while a node is made; in the end it is there
// or it is not, and never twice.
func TestNodeFaults(t *testing.T) {
	t.Parallel()
	lost := func(op string) fake.Fault { return fake.Fault{Op: op, Lost: true, Times: 1} }
	for name, c := range map[string]struct {
		cfg    fake.Config
		faults []fake.Fault
		want   string // status, type and spot
		text   string // part of the message or of an event
	}{
		"answer lost":          {faults: []fake.Fault{lost("create")}, want: "idle small"},
		"answers lost":         {faults: []fake.Fault{lost("create"), lost("create"), lost("describe"), lost("describe")}, want: "idle small"},
		"lost, shown late":     {cfg: fake.Config{Hidden: 10 * time.Second}, faults: []fake.Fault{lost("create")}, want: "idle small"},
		"no answer":            {faults: []fake.Fault{times(refusal(backends.Transient), 5)}, want: "idle small"},
		"throttled":            {faults: []fake.Fault{times(refusal(backends.Throttled), 3), {Op: "describe", Times: 3, Err: backends.Error{Kind: backends.Throttled}}}, want: "idle small"},
		"no capacity at first": {faults: []fake.Fault{times(refusal(backends.NoCapacity), 3)}, want: "idle gpus"},
		"no capacity":          {faults: []fake.Fault{refusal(backends.NoCapacity)}, want: "terminated", text: "All offers failed: small, large, gpu and 1 more: dstack region-1: no capacity. Allow more `regions` and"},
		"no answer, then none": {faults: []fake.Fault{times(refusal(backends.Transient), 1), times(refusal(backends.NoCapacity), 1)}, want: "idle large"},
		"lost, then refused":   {faults: []fake.Fault{lost("create"), times(refusal(backends.NoCapacity), 1)}, want: "idle large"},
		"quota":                {faults: []fake.Fault{refusal(backends.Quota)}, want: "terminated", text: "All offers failed: small, large, gpu and 1 more: dstack region-1: quota"},
		"credentials":          {faults: []fake.Fault{refusal(backends.Auth)}, want: "terminated", text: "All offers failed: small: dstack region-1: credentials"},
		"bad offer":            {faults: []fake.Fault{times(refusal(backends.BadRequest), 1)}, want: "idle large", text: "Machine refused: dstack small in region-1: dstack region-1: invalid request"},
		"no offers": {
			faults: []fake.Fault{{Op: "offers", Err: backends.Error{Kind: backends.Auth, Message: "the key is wrong"}}},
			want:   "terminated", text: "No offers found: dstack: its offers are missing: dstack: the key is wrong",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inCloud(t, c.cfg, func(r *cloudRig) {
				for _, f := range c.faults {
					r.cloud.Inject(f)
				}
				f := r.fleet(0, 1, 1)
				if c.want == "terminated" {
					time.Sleep(50 * time.Second) // before the fleet clears it away
				} else {
					time.Sleep(2 * time.Minute)
				}
				list := r.instances(f)
				if len(list) != 1 {
					r.t.Errorf("%d instances, events %q", len(list), r.events())
					return
				}
				i := list[0]
				got := string(i.Status)
				if i.Type != nil {
					got += " " + i.Type.Name
				}
				expect(r.t, "instance", got, c.want)
				if c.text != "" && !strings.Contains(deref(i.ReasonMessage), c.text) && !r.told(c.text) {
					r.t.Errorf("nothing says %q: %q, %q", c.text, deref(i.ReasonMessage), r.events())
				}
				if c.want == "terminated" {
					expect(r.t, "reason", *i.Reason, api.ReasonInstanceNoOffers)
					r.empty()
				} else {
					expect(r.t, "machines", len(r.cloud.Alive()), 1)
				}
				r.cloud.Heal()
				r.clear(f)
			})
		})
	}
}

// TestNodeThatNeverBoots gives it up, and its fleet gets another one.
func TestNodeThatNeverBoots(t *testing.T) {
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
		f := r.fleet(1, 1, 1)
		time.Sleep(9 * time.Minute)
		expect(r.t, "before the limit", r.statuses(f), "provisioning")
		time.Sleep(5 * time.Minute)
		if !r.told("PROVISIONING -> TERMINATING. Termination reason: PROVISIONING_TIMEOUT (The machine was not ready within 600s)") {
			r.t.Errorf("events: %q", r.events())
		}
		expect(r.t, "after the limit", r.statuses(f), "idle")
		expect(r.t, "machines", len(r.cloud.Alive()), 1)
		r.clear(f)
	})
}

// TestNodeComesUp tells users nothing of what stands in the way of a machine
// that boots.
func TestNodeComesUp(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		r.hosts.late = true
		f := r.fleet(0, 1, 1)
		time.Sleep(30 * time.Second)
		i := r.instances(f)[0]
		down := &hostapi.Problem{Code: "auth_failed", Message: "no keys yet", Remedy: "wait", Permanent: true}
		if err := r.engine.HostDown(r.t.Context(), i.ID, down); err != nil {
			r.t.Fatal(err)
		}
		i = r.instances(f)[0]
		expect(r.t, "status", i.Status, api.InstanceProvisioning)
		expect(r.t, "message", deref(i.ReasonMessage), "")
		expect(r.t, "problem", i.Machine.Problem, "no keys yet. wait")
		time.Sleep(10 * time.Minute)
		if !r.told("PROVISIONING_TIMEOUT (The machine was not ready within 600s: no keys yet. wait)") {
			r.t.Errorf("events: %q", r.events())
		}
		r.clear(f)
	})
}

// TestIdleNodes lets machines go that nobody used for long enough, but not
// more than the fleet can spare.
func TestIdleNodes(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		f := r.fleet(1, 3, 3, idleFor(5*time.Minute))
		forever := r.fleet(0, 1, 1, func(c *config.Fleet) { c.IdleDuration = new(-1) })
		time.Sleep(4 * time.Minute)
		expect(r.t, "before", r.statuses(f), "idle idle idle")
		time.Sleep(10 * time.Minute)
		expect(r.t, "afterwards", r.statuses(f), "idle")
		expect(r.t, "one that stays", r.statuses(forever), "idle")
		if !r.told("IDLE -> TERMINATING. Termination reason: IDLE_TIMEOUT") {
			r.t.Errorf("events: %q", r.events())
		}
		if err := r.engine.DeleteFleets(r.t.Context(), r.user, r.project, []string{forever.Name}); err != nil {
			r.t.Fatal(err)
		}
		r.clear(f)
	})
}

// TestNodeTakenBack ends an instance as soon as its cloud says that the machine
// is gone, and one that nobody can reach after a while.
func TestNodeTakenBack(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{Shown: time.Hour}, func(r *cloudRig) {
		f := r.fleet(0, 1, 1, func(c *config.Fleet) { c.SpotPolicy = new(config.SpotPolicySpot) })
		time.Sleep(time.Minute)
		expect(r.t, "before", r.statuses(f), "idle")
		r.cloud.Reclaim(r.cloud.Alive()[0].ID)
		time.Sleep(30 * time.Second)
		expect(r.t, "afterwards", r.statuses(f), "")
		if !r.told("Termination reason: UNREACHABLE (The cloud took the spot machine back: reclaimed)") {
			r.t.Errorf("events: %q", r.events())
		}
		r.clear(f)
	})
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		f := r.fleet(0, 1, 1)
		time.Sleep(time.Minute)
		i := r.instances(f)[0]
		if err := r.engine.HostDown(r.t.Context(), i.ID, &hostapi.Problem{Code: "unreachable", Message: "no route", Remedy: "look"}); err != nil {
			r.t.Fatal(err)
		}
		time.Sleep(19 * time.Minute)
		expect(r.t, "for a while", r.statuses(f), "idle")
		time.Sleep(2 * time.Minute)
		expect(r.t, "in the end", r.statuses(f), "")
		r.clear(f)
	})
}

// TestNodeThatStays shows a machine until the cloud lets it go.
func TestNodeThatStays(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		f := r.fleet(0, 1, 1, idleFor(time.Minute))
		r.cloud.Inject(fake.Fault{Op: "delete", Err: backends.Error{Kind: backends.Permission, Message: "not allowed", Permission: "ec2:TerminateInstances"}})
		time.Sleep(24 * time.Hour)
		list := r.instances(f)
		expect(r.t, "status", r.statuses(f), "terminating")
		const text = "dstack region-1: not allowed (the permission ec2:TerminateInstances is missing)"
		expect(r.t, "trouble", list[0].Machine.Trouble, text)
		if !r.told("is not gone yet: " + text) {
			r.t.Errorf("events: %q", r.events())
		}
		r.cloud.Heal()
		time.Sleep(2 * time.Minute)
		expect(r.t, "in the end", r.statuses(f), "")
		r.clear(f)
	})
}

// TestFleetDeletedMeanwhile deletes a fleet while its machine is being made.
func TestFleetDeletedMeanwhile(t *testing.T) {
	t.Parallel()
	for n := range 12 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			inCloud(t, fake.Config{Boot: 4 * time.Second, Hidden: time.Duration(n%3) * 5 * time.Second}, func(r *cloudRig) {
				r.cloud.Inject(fake.Fault{Op: "create", Lost: true, Times: n % 4})
				f := r.fleet(2, 2, 2)
				time.Sleep(time.Duration(n) * 500 * time.Millisecond)
				r.clear(f)
			})
		})
	}
}

// TestRestartedMeanwhile starts the server again while machines are made and
// ended.
func TestRestartedMeanwhile(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{Boot: 10 * time.Second, Stop: 10 * time.Second, Hidden: 3 * time.Second}, func(r *cloudRig) {
		r.cloud.Inject(fake.Fault{Op: "create", Lost: true, Times: 3})
		f := r.fleet(2, 2, 2)
		again := func() {
			r.stop()
			r.start()
		}
		for range 10 {
			time.Sleep(1700 * time.Millisecond)
			again()
		}
		time.Sleep(2 * time.Minute)
		expect(r.t, "nodes", r.statuses(f), "idle idle")
		expect(r.t, "machines", len(r.cloud.Alive()), 2)
		if err := r.engine.DeleteFleets(r.t.Context(), r.user, r.project, []string{f.Name}); err != nil {
			r.t.Fatal(err)
		}
		for range 10 {
			time.Sleep(1700 * time.Millisecond)
			again()
		}
		time.Sleep(2 * time.Minute)
		r.empty()
	})
}

// TestServerAwayWhileNodeBoots gives a machine that came up meanwhile the time
// to be reached; one that never does goes.
func TestServerAwayWhileNodeBoots(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		boot time.Duration
		want string
		told bool
	}{
		"it is up":       {30 * time.Second, "idle", false},
		"it never is up": {10 * time.Hour, "terminating", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inCloud(t, fake.Config{Boot: tt.boot, Stop: time.Hour}, func(r *cloudRig) {
				f := r.fleet(1, 1, 1)
				time.Sleep(10 * time.Second)
				r.stop()
				time.Sleep(time.Hour)
				r.start()
				time.Sleep(bootGrace + 10*time.Second)
				if got := r.statuses(f); !strings.HasPrefix(got, tt.want) || r.told("PROVISIONING_TIMEOUT") != tt.told {
					r.t.Errorf("nodes %q, events %q", got, r.events())
				}
			})
		})
	}
}
