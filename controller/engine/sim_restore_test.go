package engine

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"dstack/controller/backends"
	"dstack/controller/store"
	"dstack/controller/sweep"
	"dstack/protocol/api"
)

// openSweep is what a server does at a start about machines that nobody knows.
func (w *world) openSweep() {
	memory, _, err := sweep.Begin(w.ctx(), w.store, w.server, w.place, w.clock, w.newID)
	if err != nil {
		w.t.Fatal(err)
	}
	w.tag, w.tags[memory.Tag] = memory.Tag, true
	w.sweeper = sweep.New(sweep.Options{
		Store: w.store, Clouds: w.clouds, Has: func(string) bool { return true },
		Now: func() time.Time { return w.clock }, NewID: w.newID, Log: zerolog.Nop(),
	})
	w.nextSweep = w.clock.Add(time.Minute)
}

// sweep looks for machines that nobody knows. Only after a restore there are any.
func (w *world) sweep() {
	w.nextSweep = w.clock.Add(10 * time.Minute)
	w.arm()
	report, err := w.sweeper.Sweep(w.ctx())
	w.disarm()
	w.notef("sweep: %d strays, %v: %v", len(report.Strays), report.Missing, err)
	w.guard("sweep", err)
	if !w.restored() && len(report.Strays) > 0 {
		w.failf("machine %s is taken for a stray", report.Strays[0].MachineID)
	}
}

func (w *world) restored() bool { return len(w.place) > len("here") || w.setBack }

// copyOf reads the files of a database that nobody writes to at the moment.
func copyOf(t testing.TB, path string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, end := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + end)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err == nil {
			out[path+end] = data
		}
	}
	return out
}

// restore puts an old copy of the database in the place of the present one, or
// in another place, and starts a server on it.
func (w *world) restore(b *base, files map[string][]byte, moved bool) {
	w.notef("restore, moved=%v", moved)
	if err := b.Close(); err != nil {
		w.t.Fatal(err)
	}
	for _, end := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(b.path + end); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.t.Fatal(err)
		}
	}
	for name, data := range files {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	b.reopen(w.t)
	w.store, w.setBack = b.Store, true
	if moved {
		w.place += ", and there"
	}
	w.boot()
	w.forgetAfter()
}

// forgetAfter adjusts what the test knows to what an old database does: what
// was asked for since then, and what happened, never was.
func (w *world) forgetAfter() {
	maps.DeleteFunc(w.starts, func(job string, at []*simHost) bool { return !w.placed(job, at[0]) })
	clear(w.stopped)
	clear(w.idle)
	w.late = nil
	known := map[string]bool{}
	for _, i := range w.instances() {
		if i.Machine != nil && !w.disowned(i) {
			known[i.Machine.Token] = true
		}
	}
	for _, m := range w.left() {
		w.lost[m.Token] = !known[m.Token]
	}
	for _, h := range w.hosts { // a shim tells once more what it had told the other database
		for _, t := range h.tasks {
			h.move(t, t.State)
			if !w.placed(t.job, h) {
				t.job = ""
			}
		}
	}
}

// placed says whether the database knows that a job is, or was, on a host. If
// an old one does not, the job may start on another one.
func (w *world) placed(job string, h *simHost) bool {
	known := false
	err := w.store.Read(w.ctx(), func(tx *store.Tx) error {
		j, err := tx.Job(job)
		if err != nil || j.Provisioning == nil {
			return err
		}
		i, err := tx.Instance(*j.UsedInstanceID)
		known = err == nil && i.Machine.Token == h.machine.Token
		return err
	})
	if err != nil && !isNotFound(err) {
		w.failf("look for the place of a job: %w", err)
	}
	return known
}

// leftAlone says that an instance is a machine of the server from which this
// database was copied, and never came up or does not answer: only a person ends
// it.
func (w *world) leftAlone(id string) bool {
	alone := false
	err := w.store.Read(w.ctx(), func(tx *store.Tx) error {
		i, err := tx.Instance(id)
		alone = foreign(&i, w.tag) && (i.UnreachableSince != nil || i.Status == api.InstanceProvisioning) && !ended(&i)
		return err
	})
	return err == nil && alone
}

// sweepOut lets administrators end what a restored database does not know.
func (w *world) sweepOut() {
	if !w.restored() {
		return
	}
	for range 2 {
		w.cloud.setClock(w.clock.Add(sweep.MinAge))
		w.sweep()
	}
	for _, m := range w.lostAlive() {
		if !w.held(m) {
			w.failf("machine %s is not reported as a stray", m.ID)
		}
	}
	w.confirmed = true
	var ids []string
	err := w.store.Read(w.ctx(), func(tx *store.Tx) error {
		list, err := tx.Strays()
		for _, x := range list {
			ids = append(ids, x.ID)
		}
		return err
	})
	if err != nil {
		w.failf("read strays: %w", err)
	}
	_, err = w.sweeper.Confirm(w.ctx(), ids)
	w.guard("confirm", err)
	for range 3 {
		w.cloud.setClock(w.clock.Add(time.Hour))
		w.sweep()
	}
}

// lostAlive are the machines that cost money and that the database lost.
func (w *world) lostAlive() []backends.Machine {
	var out []backends.Machine
	for _, m := range w.cloud.fake.Alive() {
		if w.lost[m.Token] {
			out = append(out, m)
		}
	}
	return out
}

func (w *world) held(m backends.Machine) bool {
	found := false
	err := w.store.Read(w.ctx(), func(tx *store.Tx) error {
		list, err := tx.Strays()
		for _, x := range list {
			found = found || x.MachineID == m.ID && x.Hold != ""
		}
		return err
	})
	if err != nil {
		w.failf("read strays: %w", err)
	}
	return found
}

// simulateRestored puts a server back to an old copy of its database, in its
// place or elsewhere, beside another server in the same account.
func simulateRestored(t testing.TB, seed uint64, bases []*base) cluster {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 45))
	w := newCloudWorld(t, rng, bases[0], 0, nil)
	o := newCloudWorld(t, rng, bases[1], 1, w.cloud)
	defer w.closeClouds()
	defer o.closeClouds()
	c := cluster{simCloud: w.cloud, each: func(*world) {}}
	w.keep, o.keep = true, true
	w.createCloudFleet()
	o.createCloudFleet()
	c.acts(4)
	files := copyOf(t, bases[0].path)
	c.acts(4)
	w.restore(bases[0], files, w.chance(2))
	c.acts(3)
	if !c.failed() {
		c.calmDown()
	}
	return c
}

func TestCloudSimulatorRestored(t *testing.T) {
	bases := restorable(t)
	if *simSeed != 0 {
		simulateRestored(t, *simSeed, bases).show(t)
		return
	}
	for seed := *simSkip + 1; seed <= fileSeeds() && !t.Failed(); seed++ {
		simulateRestored(t, seed, bases).report(t, seed)
	}
}

// restorable are the databases of two servers, the first one on a file.
func restorable(t testing.TB) []*base {
	t.Helper()
	return []*base{openBase(t, filepath.Join(t.TempDir(), "sim.db")), openBase(t, "")}
}
