package engine

import (
	"encoding/json"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"dstack/controller/backends/fake"
	"dstack/controller/store"
)

// newCloudWorld is a server with an account in a cloud, and maybe SSH hosts.
func newCloudWorld(t testing.TB, rng *rand.Rand, st *store.Store, c *crashes, number int, cloud *simCloud) *world {
	t.Helper()
	w := emptyWorld(t, rng, st, c, number)
	w.budget = 20
	if cloud == nil {
		cloud = newSimCloud(w)
	}
	w.cloud, w.clock = cloud, cloud.now
	cloud.worlds = append(cloud.worlds, w)
	err := st.Write(t.Context(), func(tx *store.Tx) error {
		return tx.InsertBackend(&store.Backend{ID: w.newID(), ProjectID: w.project, Type: fake.Type, Spec: json.RawMessage(`{"type":"dstack"}`)})
	})
	if err != nil {
		t.Fatal(err)
	}
	w.boot()
	return w
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

// simulateCloud runs one seed; each base is the database of one server.
func simulateCloud(t testing.TB, seed uint64, bases []*base, keep, deep bool) cluster {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 43))
	var cloud *simCloud
	for n, b := range bases {
		w := newCloudWorld(t, rng, b.Store, b.crashes, n, cloud)
		w.keep, w.loseFirst = keep, seed%4 == 0
		defer w.closeClouds()
		cloud = w.cloud
	}
	c := cluster{simCloud: cloud, each: func(w *world) {
		if deep {
			w.checkRows()
			w.checkSizes()
		}
	}}
	c.story(10)
	return c
}

func (c cluster) report(t testing.TB, seed uint64) {
	t.Helper()
	for _, w := range c.worlds {
		if w.failure != nil {
			t.Error(w.report(seed))
		}
	}
}

// TestCloudSimulator is `make chaos-cloud`.
func TestCloudSimulator(t *testing.T) {
	if *simSeed != 0 {
		c := simulateCloud(t, *simSeed, basesOf(t, *simSeed), true, true)
		for _, w := range c.worlds {
			t.Log(strings.Join(w.lines, "\n"))
			for _, i := range w.instances() {
				t.Logf("%s %s: %s", i.Name, i.Status, deref(i.ReasonMessage))
			}
			if w.failure != nil {
				t.Error(w.failure)
			}
		}
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	var next, steps, made, started, mounted atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		bases := []*base{openBase(t, ""), openBase(t, "")}
		wg.Go(func() {
			for {
				seed := uint64(next.Add(1))
				if seed > uint64(*simSeeds) || t.Failed() {
					return
				}
				mine := bases[:servers(seed)]
				c := simulateCloud(t, seed, mine, false, false)
				for _, w := range c.worlds {
					steps.Add(int64(w.steps))
					started.Add(int64(len(w.starts)))
				}
				made.Add(int64(c.made))
				mounted.Add(int64(c.fake.Calls("attach volume")))
				if c.failed() {
					simulateCloud(t, seed, mine, true, false).report(t, seed)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds, %d steps, %d machines, %d jobs, %d attachments", *simSeeds, steps.Load(), made.Load(), started.Load(), mounted.Load())
}

// servers is how many servers a seed has.
func servers(seed uint64) int {
	if seed%5 == 0 {
		return 2
	}
	return 1
}

func basesOf(t testing.TB, seed uint64) []*base {
	t.Helper()
	var out []*base
	for range servers(seed) {
		out = append(out, openBase(t, ""))
	}
	return out
}

func TestCloudSimulatorSameSeedSameTrace(t *testing.T) {
	st := openBase(t, "")
	const seeds = 30
	for seed := uint64(1); seed <= seeds; seed++ {
		a := simulateCloud(t, seed, []*base{st}, false, false)
		b := simulateCloud(t, seed, []*base{st}, false, false)
		if a.worlds[0].trace != b.worlds[0].trace {
			t.Fatalf("seed %d: the traces differ", seed)
		}
	}
}

func TestCloudSimulatorOnFile(t *testing.T) {
	st := openBase(t, filepath.Join(t.TempDir(), "sim.db"))
	for seed := uint64(1); seed <= fileSeeds(); seed++ {
		simulateCloud(t, seed, []*base{st}, true, true).report(t, seed)
	}
}
