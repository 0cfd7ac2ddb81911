package engine

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
)

var (
	simSeeds = flag.Int("sim.seeds", seedsFromEnv(50), "how many seeds the simulator runs in memory; SIM_SEEDS sets it, too")
	simSkip  = flag.Uint64("sim.skip", 0, "how many of these seeds are left out, to go on where a long run ended")
	simFile  = flag.Int("sim.file", 0, "how many seeds the simulator runs on a file; 0 means 200 of a long run, 10 of a short one")
	simSeed  = flag.Uint64("sim.seed", 0, "run only this seed and print its trace")
)

func seedsFromEnv(fallback int) int {
	if n, err := strconv.Atoi(os.Getenv("SIM_SEEDS")); err == nil {
		return n
	}
	return fallback
}

func fileSeeds() uint64 {
	switch {
	case *simFile > 0:
		return uint64(*simFile)
	case *simSeeds >= 1000:
		return 200
	}
	return 10
}

// story lets users and faults do their work for a while, then everything
// calm down and end.
func (w *world) story(each func()) {
	w.createFleet()
	for range 9 {
		w.act()
		for range 6 + w.pick(25) {
			w.step()
			w.check()
			each()
			if w.failure != nil {
				return
			}
		}
	}
	w.calmDown(each)
}

func (w *world) calmDown(each func()) {
	w.calm = true
	for _, h := range w.hosts {
		h.cut = false
	}
	w.notef("calm")
	if !w.settle(each, "after the faults") {
		return
	}
	w.checkServices(true)
	w.checkRest()
	w.endAll()
	if !w.settle(each, "after all runs were stopped") {
		return
	}
	w.checkEnd()
	for n := range w.fleets {
		name := fmt.Sprintf("fleet-%d", n+1)
		if err := w.engine.DeleteFleets(w.ctx(), w.user, w.project, []string{name}); err != nil {
			w.failf("delete %s at the end: %w", name, err)
		}
	}
	if w.settle(each, "after all fleets were deleted") {
		w.checkGone()
	}
}

// settle runs until nothing happens any more but the passing of time.
func (w *world) settle(each func(), when string) bool {
	const most = 3000
	until := w.clock.Add(25 * time.Hour)
	for n := 0; w.failure == nil; n++ {
		if n == most {
			w.failf("does not come to rest %s", when)
			break
		}
		if len(w.moves()) > 0 {
			w.step()
			w.check()
			each()
			continue
		}
		if !w.waiting() {
			return true
		}
		if w.clock.After(until) {
			w.failf("something waits for ever %s", when)
			break
		}
		w.pass(time.Hour)
	}
	return false
}

// waiting says whether somebody waits for time to pass. A schedule's next
// trigger is nothing to wait for, nor room for a service that runs. A timer may
// be left of what is over: each refused replica leaves that of its machine.
func (w *world) waiting() bool {
	for k := range w.engine.timers.at {
		if w.alive(k) && !w.scheduled(k) {
			return true
		}
	}
	return false
}

// alive says whether there is anything left to be done for a resource.
func (w *world) alive(k store.Key) bool {
	var seq int64
	err := w.store.Read(w.ctx(), func(tx *store.Tx) (err error) {
		seq, err = tx.WorkSeq(k)
		return err
	})
	if err != nil {
		w.failf("read work: %w", err)
	}
	return seq > 0
}

// scheduled says that somebody waits for what may never come: the next trigger,
// a volume, room, or that the machine of another server answers.
func (w *world) scheduled(k store.Key) bool {
	if k.Kind == store.KindJob && w.cloud != nil {
		return w.awaitsVolume(k.ID)
	}
	if k.Kind == store.KindInstance && w.cloud != nil {
		return w.leftAlone(k.ID)
	}
	if k.Kind != store.KindRun {
		return false
	}
	waits := false
	err := w.store.Read(w.ctx(), func(tx *store.Tx) error {
		run, err := tx.Run(k.ID)
		if err != nil {
			return err
		}
		jobs, err := tx.LatestJobsByRun(k.ID)
		full := lacksCapacity(latest(jobs)) // of a schedule, each trigger begins anew
		waits = run.Status == api.RunPending && run.NextTriggerAt != nil && (run.Resubmissions == 0 || full) ||
			run.Status == api.RunRunning && run.Spec.Configuration.Service != nil && full
		return err
	})
	return err == nil && waits
}

// endAll stops what runs on by itself.
func (w *world) endAll() {
	var names []string
	for _, r := range w.runs() {
		if !r.Status.Finished() {
			names = append(names, r.Name)
			w.stopped[r.ID] = true
		}
	}
	w.notef("stop all: %v", names)
	w.guard("stop all", w.engine.StopRuns(w.ctx(), w.user, w.project, names, false))
}

func (w *world) runs() []store.Run {
	var runs []store.Run
	err := w.store.Read(w.ctx(), func(tx *store.Tx) (err error) {
		runs, err = tx.Runs(store.RunFilter{Page: store.Page{Ascending: true}})
		return err
	})
	if err != nil {
		w.failf("list runs: %w", err)
	}
	return runs
}

// simulate runs one seed and returns its world.
func simulate(t testing.TB, seed uint64, b *base, f faults, keep, deep bool) *world {
	t.Helper()
	w := newWorld(t, seed, b)
	w.keep = keep
	w.faults, w.engine.faults = f, f
	w.story(func() {
		if deep {
			w.checkRows()
			w.checkServices(false)
		}
	})
	return w
}

func (w *world) report(seed uint64) string {
	const most = 120
	lines := w.lines
	if len(lines) > most {
		lines = lines[len(lines)-most:]
	}
	return fmt.Sprintf("seed %d: %v\n%s", seed, w.failure, strings.Join(lines, "\n"))
}

func TestSimulator(t *testing.T) {
	if *simSeed != 0 {
		b := openBase(t, "")
		w := simulate(t, *simSeed, b, faults{}, true, true)
		t.Log(strings.Join(w.lines, "\n"))
		if w.failure != nil {
			t.Fatalf("seed %d: %v", *simSeed, w.failure)
		}
		return
	}
	// Worlds are short-lived: collecting garbage more rarely is a fifth faster.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	var next, steps atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		b := openBase(t, "")
		wg.Go(func() {
			for {
				seed := *simSkip + uint64(next.Add(1))
				if seed > uint64(*simSeeds) || t.Failed() {
					return
				}
				w := simulate(t, seed, b, faults{}, false, false)
				steps.Add(int64(w.steps))
				if w.failure != nil {
					w = simulate(t, seed, b, faults{}, true, false)
					t.Error(w.report(seed))
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds, %d steps", *simSeeds, steps.Load())
}

func TestSimulatorOnFile(t *testing.T) {
	b := openBase(t, filepath.Join(t.TempDir(), "sim.db"))
	for seed := uint64(1); seed <= fileSeeds(); seed++ {
		if w := simulate(t, seed, b, faults{}, true, true); w.failure != nil {
			t.Fatal(w.report(seed))
		}
	}
}

// TestSimulatorFindsPlantedBugs keeps the simulator itself honest.
func TestSimulatorFindsPlantedBugs(t *testing.T) {
	for name, f := range map[string]faults{
		"a lost wake-up":                        {loseWakes: true},
		"a double start after a lost answer":    {forgetStart: true},
		"a stop overwritten by a parallel pass": {blindWrites: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := openBase(t, "")
			const most = 2000
			for seed := uint64(1); seed <= most; seed++ {
				if w := simulate(t, seed, b, f, false, false); w.failure != nil {
					t.Logf("found with seed %d: %v", seed, w.failure)
					return
				}
			}
			t.Errorf("not found in %d seeds", most)
		})
	}
}
