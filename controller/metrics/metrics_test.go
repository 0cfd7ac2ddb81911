package metrics

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a collector on a real store with jobs j0, j1, ... of instance i1.
type rig struct {
	t       *testing.T
	store   *store.Store
	commits atomic.Int64
	c       *Collector
	stop    func()
}

func newRig(t *testing.T, jobs int) *rig {
	t.Helper()
	r := &rig{t: t}
	var err error
	r.store, err = store.Open(t.Context(), store.Options{Memory: true, Inline: true, AfterCommit: func() error { r.commits.Add(1); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	r.write(func(tx *store.Tx) error {
		now := time.Now()
		u := store.User{ID: "u1", Name: "u", CreatedAt: now}
		p := store.Project{ID: "p1", Name: "main", OwnerID: "u1", CreatedAt: now}
		run := store.Run{ID: "r1", ProjectID: "p1", UserID: "u1", Name: "run", SubmittedAt: now, LastProcessedAt: now, Status: api.RunRunning}
		if err := errors.Join(tx.InsertUser(&u), tx.InsertProject(&p), tx.InsertRun(&run)); err != nil {
			return err
		}
		for n := range jobs {
			j := store.Job{ID: fmt.Sprint("j", n), RunID: "r1", ProjectID: "p1", RunName: "run", SubmissionNum: n, SubmittedAt: now, LastProcessedAt: now, Status: api.JobRunning}
			if err := tx.InsertJob(&j); err != nil {
				return err
			}
		}
		return tx.Wake(now, store.Key{Kind: store.KindJob, ID: "j0"})
	})
	r.c = New(Options{
		Store: r.store, Now: time.Now, Log: zerolog.Nop(), RunningTTL: time.Hour, FinishedTTL: 24 * time.Hour,
		Owns: func(_ context.Context, instance, job string) (bool, error) {
			if job == "unclear" {
				return false, errors.New("no answer")
			}
			return instance == "i1", nil
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.c.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	synctest.Wait() // Run cleans up first
	return r
}

func (r *rig) close() {
	r.stop()
	if err := r.store.Close(); err != nil {
		r.t.Error(err)
	}
}

func (r *rig) write(fn func(*store.Tx) error) {
	r.t.Helper()
	if err := r.store.Write(r.t.Context(), fn); err != nil {
		r.t.Fatal(err)
	}
}

// points are the CPU times of a job's stored points with their age in
// seconds, newest first.
func (r *rig) points(job string) []string {
	r.t.Helper()
	out := []string{}
	err := r.store.Read(r.t.Context(), func(tx *store.Tx) error {
		list, err := tx.Metrics(store.MetricsFilter{JobID: job, Limit: 100})
		for _, p := range list {
			out = append(out, fmt.Sprintf("%d at -%g", p.CPUMicro, time.Since(p.At).Seconds()))
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func used(job string, cpu int64, age time.Duration) hostapi.TaskUsage {
	return hostapi.TaskUsage{TaskID: job, AgeMillis: age.Milliseconds(), Usage: jobapi.Usage{CPUMicro: cpu}}
}

func TestPointsAreStoredTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const jobs = 500
		r := newRig(t, jobs)
		defer r.close()
		before := r.commits.Load()
		for n := range jobs {
			r.c.TaskUsed("i1", used(fmt.Sprint("j", n), 1, 0))
		}
		synctest.Wait()
		if got := r.points("j7"); len(got) != 0 {
			t.Errorf("stored at once: %v", got)
		}
		time.Sleep(flushEvery)
		synctest.Wait()
		if diff := cmp.Diff([]string{"1 at -1"}, r.points("j7")); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", flushEvery, diff)
		}
		if n := r.commits.Load() - before; n != 1 {
			t.Errorf("%d commits for %d jobs", n, jobs)
		}
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		if n := r.commits.Load() - before - 10*int64(time.Hour/cleanEvery); n != 1 {
			t.Errorf("%d commits while nothing came", n-1)
		}
	})
}

func TestWhatIsNotStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2)
		defer r.close()
		r.c.TaskUsed("i2", used("j0", 1, 0)) // of another's job
		r.c.TaskUsed("i1", used("j0", 2, 20*time.Second))
		r.c.TaskUsed("i1", used("j0", 3, 10*time.Second))
		r.c.TaskUsed("i1", used("j0", 4, 9900*time.Millisecond)) // too soon
		r.c.TaskUsed("i1", used("j0", 5, 9*time.Second))
		r.c.TaskUsed("i1", used("j0", 6, 15*time.Second)) // late
		r.c.TaskUsed("i1", used("gone", 7, 0))
		r.c.TaskUsed("i1", used("j1", 8, 100*time.Hour))
		time.Sleep(flushEvery)
		synctest.Wait()
		if diff := cmp.Diff([]string{"5 at -10", "3 at -11", "2 at -21"}, r.points("j0")); diff != "" {
			t.Errorf("j0 (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"8 at -3601"}, r.points("j1")); diff != "" {
			t.Errorf("j1 (-want +got):\n%s", diff)
		}
		r.c.TaskUsed("i1", used("unclear", 9, 0))
		r.c.TaskUsed("i1", used("j0", 9, 0))
		time.Sleep(flushEvery)
		synctest.Wait()
		if got := r.points("j0"); len(got) != 3 {
			t.Errorf("stored without knowing whose: %v", got)
		}
	})
}

func TestPointsGetOld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2) // j0 runs, j1 has ended
		defer r.close()
		for _, job := range []string{"j0", "j1"} {
			r.c.TaskUsed("i1", used(job, 1, 0))
		}
		time.Sleep(55 * time.Minute)
		r.c.TaskUsed("i1", used("j0", 2, 0))
		time.Sleep(11 * time.Minute)
		if diff := cmp.Diff([]string{"2 at -660"}, r.points("j0")); diff != "" {
			t.Errorf("of a job that runs (-want +got):\n%s", diff)
		}
		if got := r.points("j1"); len(got) != 1 {
			t.Errorf("of a job that has ended: %v", got)
		}
		time.Sleep(23 * time.Hour)
		if got := r.points("j1"); len(got) != 0 {
			t.Errorf("a day later: %v", got)
		}
	})
}

// TestLastPoints sees that what waits is stored at the end, and that a crowd
// of made-up jobs is not remembered for ever.
func TestLastPoints(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		defer r.close()
		for n := range maxSources + 1 {
			r.c.TaskUsed("i2", used(fmt.Sprint("made up ", n), 1, 0))
		}
		if len(r.c.last) > maxSources || len(r.c.pending) > maxPending {
			t.Errorf("%d jobs, %d points are remembered", len(r.c.last), len(r.c.pending))
		}
		r.c.TaskUsed("i1", used("j0", 5, 0))
		r.stop()
		r.stop = func() {}
		if diff := cmp.Diff([]string{"5 at -0"}, r.points("j0")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
