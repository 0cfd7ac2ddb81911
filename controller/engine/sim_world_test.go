package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"dstack/controller/backends"
	"dstack/controller/hosts"
	"dstack/controller/store"
	"dstack/controller/sweep"
	"dstack/protocol/hostapi"
)

var errCrash = errors.New("crash")

// wanted is a host that the engine wants a connection to.
type wanted struct {
	target hosts.Target
	host   *simHost
	// seq is up to where events were taken from the installation hostID.
	seq    uint64
	hostID string
	known  bool // seq and hostID are those of this process, not the target's
	up     bool
	epoch  int
	// hello is on its way; down says that the engine has to hear of the end.
	hello *hostapi.Hello
	down  bool
	told  bool // the engine knows that the host is away
	// noticed says that the engine heard the cloud's notice.
	noticed bool
}

// flight is an effect on its way, bound to the connection that carries it.
type flight struct {
	effect Effect
	epoch  int
}

type answer struct {
	effect  Effect
	outcome Outcome
}

// world is one simulated cluster: the real engine on the real store, and
// everything around it. It is the scheduler: whatever happens next is picked
// from the seed, so the same seed gives the same trace.
type world struct {
	t       testing.TB
	rng     *rand.Rand
	clock   time.Time
	ids     int
	number  int
	store   *store.Store
	crashes *crashes
	engine  *Engine
	faults  faults

	// cloud is nil in a world of SSH hosts; server is the name that machines of
	// this world's server carry.
	cloud  *simCloud
	server string
	// tag is what machines carry now, tags what they carried before as well;
	// place names where the database lies.
	tag, place string
	tags       map[string]bool
	sweeper    *sweep.Sweeper
	nextSweep  time.Time
	// lost are machines, by token, that a restored database does not know;
	// confirmed says that an administrator let them end.
	lost      map[string]bool
	confirmed bool
	setBack   bool // the database is an old copy
	clouds    *simClouds
	// mistake spoils what the cloud answered, as a server with a bug would.
	mistake func(w *world, f Effect, out Outcome) Outcome
	// loseFirst loses the first answer to each call to the cloud.
	loseFirst bool
	specs     map[string]backends.MachineSpec // asked for, by token
	idle      map[string]time.Time            // since when instances are seen idle
	most      map[string]int                  // how many machines a fleet ever might have
	owned     map[string]bool                 // tokens of volumes that were asked for
	compared  seen
	// late are requests of a server that is gone, or gave them up, and that are
	// still on their way; killed says that the server is gone.
	late   []lateCall
	killed bool

	hosts   []*simHost
	wanted  []*wanted
	flights []flight
	answers []answer
	plans   []plan

	project, user string
	submitted     int
	fleets        int
	volumes       int
	stopped       map[string]bool       // ids of runs whose stop was accepted
	starts        map[string][]*simHost // where containers started, by job submission
	calm          bool                  // no more faults
	budget        int                   // faults left
	steps, boots  int
	lines         []string
	keep          bool // keep the lines of the trace
	failure       error
}

// crashes makes the store fail around a commit: the next one, or a certain one.
type crashes struct {
	before, after bool
	// commits counts them; beforeNum and afterNum are those around which the
	// server crashes, 0 for none. struck says that it did.
	commits, beforeNum, afterNum int
	struck                       bool
}

func (c *crashes) beforeCommit() error {
	c.commits++
	if c.before || c.commits == c.beforeNum {
		c.struck = true
		return errCrash
	}
	return nil
}

func (c *crashes) afterCommit() error {
	if c.after || c.commits == c.afterNum {
		c.struck = true
		return errCrash
	}
	return nil
}

// reset disarms what was planned for the next commit.
func (c *crashes) reset() { c.before, c.after, c.struck = false, false, false }

func (c *crashes) options(path string) store.Options {
	return store.Options{Path: path, Memory: path == "", Inline: true, BeforeCommit: c.beforeCommit, AfterCommit: c.afterCommit}
}

// base is a store with what makes it fail. One on a file can be set back.
type base struct {
	*store.Store
	crashes *crashes
	path    string
}

func openBase(t testing.TB, path string) *base {
	t.Helper()
	b := &base{crashes: &crashes{}, path: path}
	b.reopen(t)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *base) reopen(t testing.TB) {
	t.Helper()
	st, err := store.Open(t.Context(), b.crashes.options(b.path))
	if err != nil {
		t.Fatal(err)
	}
	b.Store = st
}

func newWorld(t testing.TB, seed uint64, b *base) *world {
	t.Helper()
	w := emptyWorld(t, rand.New(rand.NewPCG(seed, 42)), b, 0)
	for i := range 2 + w.pick(2) {
		w.addHost(i)
	}
	w.boot()
	return w
}

func (w *world) addHost(n int) {
	w.hosts = append(w.hosts, &simHost{name: fmt.Sprintf("h%d", n), gone: map[string]bool{}, blocks: 1 + w.pick(2)})
}

// emptyWorld has a user and a project. Worlds with different numbers share no ids.
func emptyWorld(t testing.TB, rng *rand.Rand, b *base, number int) *world {
	t.Helper()
	w := &world{
		t: t, rng: rng, clock: time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC), number: number,
		store: b.Store, crashes: b.crashes, stopped: map[string]bool{}, starts: map[string][]*simHost{}, budget: 12,
		specs: map[string]backends.MachineSpec{}, idle: map[string]time.Time{}, most: map[string]int{}, owned: map[string]bool{}, tags: map[string]bool{}, lost: map[string]bool{}, place: "here",
	}
	*b.crashes = crashes{}
	if err := b.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.user, w.project = w.newID(), w.newID()
	err := b.Write(t.Context(), func(tx *store.Tx) (err error) {
		if w.server, err = tx.ServerID(w.newID()); err != nil {
			return err
		}
		err = tx.InsertUser(&store.User{ID: w.user, Name: "admin", GlobalRole: "admin", Active: true, Token: "t", CreatedAt: w.clock})
		if err != nil {
			return err
		}
		return tx.InsertProject(&store.Project{
			ID: w.project, Name: "main", OwnerID: w.user, CreatedAt: w.clock, PublicKey: "ssh-ed25519 project\n", PrivateKey: "PRIVATE KEY project",
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) newID() string {
	w.ids++
	return fmt.Sprintf("%08x-0000-4000-8000-%06x%06x", w.number, w.number, w.ids) // names of clouds end with a part of it
}

func (w *world) pick(n int) int { return w.rng.IntN(n) }

// chance is true in one of n cases.
func (w *world) chance(n int) bool { return w.pick(n) == 0 }

// fault is true in one of n cases, as long as faults are left.
func (w *world) fault(n int) bool {
	if w.calm || w.budget == 0 || !w.chance(n) {
		return false
	}
	w.budget--
	return true
}

func (w *world) notef(format string, args ...any) {
	if w.keep {
		w.lines = append(w.lines, w.clock.Format("15:04:05 ")+fmt.Sprintf(format, args...))
	}
}

func (w *world) failf(format string, args ...any) {
	if w.failure == nil {
		w.failure = fmt.Errorf(format, args...)
	}
}

// boot starts a server on what is stored; all that was in memory is lost.
func (w *world) boot() {
	w.boots++
	w.crashes.reset()
	w.killed = false
	w.wanted, w.flights, w.answers, w.plans = nil, nil, nil, nil
	cfg := Config{
		Store: w.store, Hosts: simHosts{w}, Now: func() time.Time { return w.clock }, NewID: w.newID,
		Log: zerolog.Nop(), Replica: fmt.Sprintf("sim-%d", w.boots),
	}
	if w.cloud != nil {
		w.closeClouds()
		w.clouds = w.openClouds()
		w.openSweep()
		cfg.Clouds, cfg.ServerID, cfg.NewHostKey = w.clouds, w.tag, w.newHostKey
	}
	w.engine = New(cfg)
	w.engine.faults = w.faults
	w.engine.start = func(f Effect) { w.flights = append(w.flights, flight{f, w.epoch(f.InstanceID)}) }
	if err := w.engine.Recover(w.ctx()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) ctx() context.Context { return w.t.Context() }

func (w *world) host(name string) *simHost {
	for _, h := range slices.Backward(w.hosts) { // a cloud may give an address again
		if h.name == name {
			return h
		}
	}
	return nil
}

func (w *world) want(instanceID string) *wanted {
	for _, x := range w.wanted {
		if x.target.InstanceID == instanceID {
			return x
		}
	}
	return nil
}

func (w *world) epoch(instanceID string) int {
	if x := w.want(instanceID); x != nil {
		return x.epoch
	}
	return 0
}

// reach is the host at the end of a live connection.
func (w *world) reach(instanceID string) *simHost {
	x := w.want(instanceID)
	if x == nil || !x.up || !w.reachable(x.host) {
		return nil
	}
	return x.host
}

// guard handles the error of an engine call: a planned crash restarts the
// server, anything else is a failure of the test.
func (w *world) guard(what string, err error) {
	var refused *Refused
	switch {
	case err == nil, errors.As(err, &refused):
	case errors.Is(err, errCrash):
		w.notef("crash in %s", what)
		w.boot()
	default:
		w.failf("%s: %w", what, err)
	}
}

// arm plans a crash around the next commit, now and then.
func (w *world) arm() {
	if w.fault(60) {
		w.crashes.before = w.chance(2)
		w.crashes.after = !w.crashes.before
	}
}

func (w *world) disarm() { w.crashes.before, w.crashes.after = false, false }
