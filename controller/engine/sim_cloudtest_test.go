package engine

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/store"
)

// newCloudWorld is a server with an account in a cloud, and maybe SSH hosts.
func newCloudWorld(t testing.TB, rng *rand.Rand, b *base, number int, cloud *simCloud) *world {
	t.Helper()
	w := emptyWorld(t, rng, b, number)
	w.budget = 20
	if cloud == nil {
		cloud = newSimCloud(w)
	}
	w.cloud, w.clock = cloud, cloud.now
	cloud.worlds = append(cloud.worlds, w)
	err := b.Write(t.Context(), func(tx *store.Tx) error {
		return tx.InsertBackend(&store.Backend{ID: w.newID(), ProjectID: w.project, Type: fake.Type, Spec: json.RawMessage(`{"type":"dstack"}`)})
	})
	if err != nil {
		t.Fatal(err)
	}
	w.boot()
	return w
}

// how is how a seed is run: keep the lines of its trace, look deeply after each
// step, make a mistake.
type how struct {
	keep, deep bool
	mistake    func(*world, Effect, Outcome) Outcome
}

// simulateCloud runs one seed; each base is the database of one server.
func simulateCloud(t testing.TB, seed uint64, bases []*base, h how) cluster {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 43))
	var cloud *simCloud
	for n, b := range bases {
		w := newCloudWorld(t, rng, b, n, cloud)
		w.keep, w.mistake, w.loseFirst = h.keep, h.mistake, seed%4 == 0
		defer w.closeClouds()
		cloud = w.cloud
	}
	c := cluster{simCloud: cloud, each: func(w *world) {
		if h.deep {
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

// show logs all that happened in a seed.
func (c cluster) show(t testing.TB) {
	t.Helper()
	for _, w := range c.worlds {
		t.Log(strings.Join(w.lines, "\n"))
		for _, i := range w.instances() {
			t.Logf("%s %s: %s", i.Name, i.Status, deref(i.ReasonMessage))
		}
		if w.failure != nil {
			t.Error(w.failure)
		}
	}
}

// TestCloudSimulator is `make chaos-cloud`.
func TestCloudSimulator(t *testing.T) {
	if *simSeed != 0 {
		simulateCloud(t, *simSeed, basesOf(t, *simSeed), how{keep: true, deep: true}).show(t)
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	var next, steps, made, started, mounted atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		bases := []*base{openBase(t, ""), openBase(t, "")}
		wg.Go(func() {
			for {
				seed := *simSkip + uint64(next.Add(1))
				if seed > uint64(*simSeeds) || t.Failed() {
					return
				}
				mine := bases[:servers(seed)]
				c := simulateCloud(t, seed, mine, how{})
				for _, w := range c.worlds {
					steps.Add(int64(w.steps))
					started.Add(int64(len(w.starts)))
				}
				made.Add(int64(c.made))
				mounted.Add(int64(c.fake.Calls("attach volume")))
				if c.failed() {
					simulateCloud(t, seed, mine, how{keep: true}).report(t, seed)
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

func TestCloudSimulatorOnFile(t *testing.T) {
	st := openBase(t, filepath.Join(t.TempDir(), "sim.db"))
	for seed := uint64(1); seed <= fileSeeds(); seed++ {
		simulateCloud(t, seed, []*base{st}, how{keep: true, deep: true}).report(t, seed)
	}
}

// TestCloudSimulatorFindsPlantedBugs keeps the simulator itself honest.
func TestCloudSimulatorFindsPlantedBugs(t *testing.T) {
	for name, mistake := range map[string]func(*world, Effect, Outcome) Outcome{
		"a lost answer is taken for a refusal": func(_ *world, f Effect, out Outcome) Outcome {
			if f.Kind == DoCreate && out.Err != nil {
				out.Err = &backends.Error{Kind: backends.NoCapacity}
			}
			return out
		},
		"a machine that is asked to end is taken for one that is gone": func(_ *world, f Effect, out Outcome) Outcome {
			if f.Kind == DoRelease && out.Err == nil {
				out.Machine.State = backends.MachineGone
			}
			return out
		},
		"an unknown machine is taken for one that never was": func(w *world, f Effect, out Outcome) Outcome {
			if f.Kind == DoDescribe && errors.Is(out.Err, backends.NotFound) {
				out.Asked = w.clock.Add(time.Hour)
			}
			return out
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := openBase(t, "")
			const most = 2000
			for seed := uint64(1); seed <= most; seed++ {
				if c := simulateCloud(t, seed, []*base{st}, how{mistake: mistake}); c.failed() {
					t.Logf("found with seed %d: %v", seed, c.worlds[0].failure)
					return
				}
			}
			t.Errorf("not found in %d seeds", most)
		})
	}
}
