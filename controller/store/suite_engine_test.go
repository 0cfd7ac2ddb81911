package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/api"
)

func runIDs(list []Run, err error) (string, error) {
	out := ""
	for _, r := range list {
		out += r.ID
	}
	return out, err
}

func testRuns(t *testing.T, s *Store) {
	t.Helper()
	write(t, s, func(tx *Tx) error {
		if err := seed(tx); err != nil {
			return err
		}
		other := User{ID: "u2", Name: "u2", Token: "t2"}
		if err := tx.InsertUser(&other); err != nil {
			return err
		}
		spec := testRunSpec()
		spec.RepoID = nil
		for i, status := range []api.RunStatus{api.RunDone, api.RunRunning, api.RunFailed} {
			r := Run{Spec: spec, ID: string(rune('a' + i)), Name: fmt.Sprint("n", i), ProjectID: "p1", UserID: "u2", Status: status, SubmittedAt: at(10 + i)}
			r.Deleted = status == api.RunFailed
			if status == api.RunDone {
				r.FleetID = ptr("f1")
				r.NextTriggerAt = ptr(at(20))
			}
			if err := tx.InsertRun(&r); err != nil {
				return err
			}
		}
		return nil
	})
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "all, deleted ones too", "cbar1")(runIDs(tx.Runs(RunFilter{}))),
			same(t, "active", "br1")(runIDs(tx.Runs(RunFilter{OnlyActive: true}))),
			same(t, "not deleted", "bar1")(runIDs(tx.Runs(RunFilter{NotDeleted: true}))),
			same(t, "of a user", "cba")(runIDs(tx.Runs(RunFilter{UserID: "u2"}))),
			same(t, "of a repo", "r1")(runIDs(tx.Runs(RunFilter{RepoID: "repo-1"}))),
			same(t, "of no project", "")(runIDs(tx.Runs(RunFilter{ProjectIDs: []string{}}))),
			same(t, "of a project, a page", "b")(runIDs(tx.Runs(RunFilter{ProjectIDs: []string{"p1"}, Page: Page{PrevTime: ptr(at(12)), PrevID: "c", Limit: 1}}))),
			same(t, "unfinished of the fleet", "r1")(runIDs(tx.UnfinishedRunsOfFleet("f1"))),
		)
	})
}

func testWaitingRuns(t *testing.T, s *Store) {
	t.Helper()
	stop := api.ReasonStoppedByUser
	write(t, s, func(tx *Tx) error {
		if err := seed(tx); err != nil {
			return err
		}
		for i, r := range []Run{
			{ID: "a", Status: api.RunPending, Resubmissions: 1},
			{ID: "b", Status: api.RunPending, Resubmissions: 3},
			{ID: "c", Status: api.RunPending, Resubmissions: 1, Priority: 5},
			{ID: "scheduled", Status: api.RunPending},
			{ID: "stopped", Status: api.RunPending, Resubmissions: 1, Stop: &stop},
			{ID: "running", Status: api.RunRunning, Resubmissions: 1},
		} {
			r.Spec, r.Name, r.ProjectID, r.UserID, r.SubmittedAt = testRunSpec(), r.ID, "p1", "u1", at(20-i)
			if err := tx.InsertRun(&r); err != nil {
				return err
			}
		}
		return nil
	})
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "by priority, then age", "cba")(runIDs(tx.WaitingRuns("p1"))),
			same(t, "elsewhere", "")(runIDs(tx.WaitingRuns("p2"))),
		)
	})
}

func jobIDs(list []Job, err error) (string, error) {
	ids := make([]string, len(list))
	for i, j := range list {
		ids[i] = j.ID
	}
	return strings.Join(ids, " "), err
}

func testJobs(t *testing.T, s *Store) {
	t.Helper()
	write(t, s, func(tx *Tx) error {
		if err := seed(tx); err != nil {
			return err
		}
		r := Run{ID: "r2", Name: "other", ProjectID: "p1", UserID: "u1", Spec: testRunSpec()}
		if err := tx.InsertRun(&r); err != nil {
			return err
		}
		for job := range 2 {
			for sub := range 3 {
				j := Job{
					ID: fmt.Sprintf("%d%d", job, sub), RunID: "r2", ProjectID: "p1", JobNum: job, SubmissionNum: sub,
					Status: api.JobFailed, UsedInstanceID: ptr("i1"), SubmittedAt: at(sub),
				}
				if sub == 2 {
					j.Status = api.JobSubmitted
				}
				if err := tx.InsertJob(&j); err != nil {
					return err
				}
			}
		}
		return nil
	})
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "of the run", "00 01 02 10 11 12")(jobIDs(tx.JobsByRun("r2"))),
			same(t, "latest", "02 12")(jobIDs(tx.LatestJobsByRun("r2"))),
			same(t, "newest two of both runs", "j1 01 02 11 12")(jobIDs(tx.JobsByRuns([]string{"r2", "r1"}, 2))),
			same(t, "all of both runs", "j1 00 01 02 10 11 12")(jobIDs(tx.JobsByRuns([]string{"r2", "r1"}, 0))),
			same(t, "of no run", "")(jobIDs(tx.JobsByRuns(nil, 0))),
			same(t, "on the instance", "j1")(jobIDs(tx.JobsOnInstance("i1"))),
			same(t, "on instances", "j1")(jobIDs(tx.JobsOnInstances([]string{"i1", "x"}))),
			same(t, "waiting", "02 12")(jobIDs(tx.WaitingJobs("p1"))),
			same(t, "waiting elsewhere", "")(jobIDs(tx.WaitingJobs("p2"))),
		)
	})
	write(t, s, func(tx *Tx) error {
		return errors.Join(tx.Wake(at(1), Key{KindJob, "00"}, Key{KindJob, "01"}), tx.DeleteJob("00"), tx.DeleteJob("x"))
	})
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "left", "01 02 10 11 12")(jobIDs(tx.JobsByRun("r2"))),
			same(t, "work left", []Key{{KindJob, "01"}})(tx.AllWork()),
		)
	})
}

func instanceIDs(list []Instance, err error) (string, error) {
	out := ""
	for _, i := range list {
		out += i.ID
	}
	return out, err
}

func testInstances(t *testing.T, s *Store) {
	t.Helper()
	write(t, s, func(tx *Tx) error {
		if err := seed(tx); err != nil {
			return err
		}
		for n, status := range []api.InstanceStatus{api.InstanceTerminated, api.InstanceIdle, api.InstancePending} {
			i := Instance{
				ID: string(rune('a' + n)), ProjectID: "p1", FleetID: "f1", Num: n + 1, Status: status, Hostname: "10.0.0.9",
				CreatedAt: at(20 + n), Deleted: status == api.InstanceTerminated, HostID: "home-" + string(rune('a'+n)),
			}
			if err := tx.InsertInstance(&i); err != nil {
				return err
			}
		}
		return nil
	})
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "of the fleet", "i1bc")(instanceIDs(tx.InstancesOfFleet("f1"))),
			same(t, "of no fleet", "")(instanceIDs(tx.InstancesOfFleets(nil))),
			same(t, "on hosts", "i1bc")(instanceIDs(tx.InstancesOnHosts([]string{"10.0.0.9", "10.0.0.5"}))),
			same(t, "of a shim", "b")(instanceIDs(tx.InstancesOfShim("home-b"))),
			same(t, "all", "cbai1")(instanceIDs(tx.Instances(InstanceFilter{}))),
			same(t, "active", "bi1")(instanceIDs(tx.Instances(InstanceFilter{OnlyActive: true}))),
			same(t, "of fleet and project", "c")(instanceIDs(tx.Instances(InstanceFilter{
				ProjectIDs: []string{"p1"}, FleetIDs: []string{"f1"}, Page: Page{Limit: 1},
			}))),
			same(t, "of a fleet that is none", "")(instanceIDs(tx.Instances(InstanceFilter{FleetIDs: []string{"x"}}))),
		)
	})
}

func testWork(t *testing.T, s *Store) {
	t.Helper()
	a, b := Key{KindJob, "a"}, Key{KindRun, "b"}
	due := func(sec int) []Key {
		var keys []Key
		read(t, s, func(tx *Tx) (err error) { keys, err = tx.DueWork(at(sec), 0); return err })
		return keys
	}
	write(t, s, func(tx *Tx) error { return errors.Join(tx.Wake(at(1), a), tx.Wake(at(2), b)) })
	if diff := cmp.Diff([]Key{a}, due(1)); diff != "" {
		t.Errorf("due (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Key{a, b}, due(2)); diff != "" {
		t.Errorf("due (-want +got):\n%s", diff)
	}
	// A key that is woken while it is worked on stays due.
	write(t, s, func(tx *Tx) error {
		seen, err := tx.WorkSeq(a)
		return errors.Join(err, tx.Wake(at(3), a), tx.Settle(a, seen, ptr(at(50))))
	})
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "seq", int64(2))(tx.WorkSeq(a)),
			same(t, "seq of a key without work", int64(0))(tx.WorkSeq(Key{KindJob, "x"})),
			same(t, "first", []Key{b})(tx.DueWork(at(9), 1)),
			same(t, "all", []Key{a, b})(tx.AllWork()),
		)
	})
	write(t, s, func(tx *Tx) error { return errors.Join(tx.Settle(a, 2, ptr(at(50))), tx.Settle(b, 1, nil)) })
	if keys := due(49); len(keys) > 0 {
		t.Errorf("due: %v", keys)
	}
	if diff := cmp.Diff([]Key{a}, due(50)); diff != "" {
		t.Errorf("due (-want +got):\n%s", diff)
	}
	write(t, s, func(tx *Tx) error { return tx.DropWork(a) })
	read(t, s, func(tx *Tx) error { return same(t, "all", []Key{b})(tx.AllWork()) })
}

func testOnWake(t *testing.T, s *Store) {
	t.Helper()
	var got []Key
	s.OnWake(func(keys []Key) { got = append(got, keys...) })
	a, b := Key{KindJob, "a"}, Key{KindRun, "b"}
	if err := s.Write(t.Context(), func(tx *Tx) error { return errors.Join(tx.Wake(at(1), a), errors.New("no")) }); err == nil {
		t.Error("the write did not fail")
	}
	write(t, s, func(tx *Tx) error { return tx.Wake(at(1), b, a, b) })
	write(t, s, func(*Tx) error { return nil })
	if diff := cmp.Diff([]Key{b, a}, got); diff != "" {
		t.Errorf("woken (-want +got):\n%s", diff)
	}
}
