package store

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"dstack/protocol/api"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("STORE_TEST_CHILD"); path != "" {
		writeForever(path)
		os.Exit(1) // it came to an end
	}
	goleak.VerifyTestMain(m)
}

// TestStore runs the suite on every way to open a store. Another database
// joins by one more line.
func TestStore(t *testing.T) {
	t.Parallel()
	sealer, err := NewSealer(AESKey{Name: "k", Secret: [32]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	for name, opts := range map[string]Options{
		"file":          {Sealer: sealer},
		"file, inline":  {Inline: true},
		"memory":        {Memory: true, Sealer: sealer},
		"memory inline": {Memory: true, Inline: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			suite(t, func(t *testing.T) *Store { return openTest(t, opts) })
		})
	}
}

// suite is what every database must do.
func suite(t *testing.T, open func(*testing.T) *Store) {
	t.Helper()
	for name, fn := range map[string]func(*testing.T, *Store){
		"rows come back as they went":  testRoundTrip,
		"names":                        testNames,
		"versions":                     testVersions,
		"missing rows":                 testMissing,
		"a failed write is undone":     testUndone,
		"pages":                        testPages,
		"runs":                         testRuns,
		"waiting runs":                 testWaitingRuns,
		"jobs":                         testJobs,
		"instances":                    testInstances,
		"projects and members":         testProjects,
		"repos":                        testRepos,
		"events":                       testEvents,
		"work":                         testWork,
		"wakes after the commit alone": testOnWake,
		"reset":                        testReset,
		"closed":                       testClosed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fn(t, open(t))
		})
	}
}

// same compares what a query gave with what is wanted.
func same[T any](t *testing.T, what string, want T) func(T, error) error {
	t.Helper()
	return func(got T, err error) error {
		t.Helper()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		// A list that is empty may come back as one that is nil, and back.
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		return nil
	}
}

func testRoundTrip(t *testing.T, s *Store) {
	t.Helper()
	write(t, s, seed)
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "user", testUser())(tx.User("u1")),
			same(t, "project", testProject())(tx.Project("p1")),
			same(t, "members", []Member{{ProjectID: "p1", UserID: "u1", Role: "admin"}})(tx.Members("p1")),
			same(t, "fleet", testFleet())(tx.Fleet("f1")),
			same(t, "run", testRun())(tx.Run("r1")),
			same(t, "instance", testInstance())(tx.Instance("i1")),
			same(t, "job", testJob())(tx.Job("j1")),
		)
	})
	// Everything optional may be missing, and may go away again.
	was, wasRun, wasHost, wasJob := testFleet(), testRun(), testInstance(), testJob()
	f := Fleet{ID: "f1", ProjectID: "p1", Name: was.Name, CreatedAt: was.CreatedAt, Spec: was.Spec}
	r := Run{ID: "r1", ProjectID: "p1", UserID: "u1", Name: wasRun.Name, SubmittedAt: wasRun.SubmittedAt, Spec: wasRun.Spec}
	i := Instance{ID: "i1", ProjectID: "p1", FleetID: "f1", Name: wasHost.Name, CreatedAt: wasHost.CreatedAt}
	j := Job{ID: "j1", RunID: "r1", ProjectID: "p1", RunName: wasJob.RunName, SubmittedAt: wasJob.SubmittedAt, Spec: wasJob.Spec}
	r.Spec.RepoID = nil
	write(t, s, func(tx *Tx) error {
		return errors.Join(tx.UpdateFleet(&f), tx.UpdateRun(&r), tx.UpdateInstance(&i), tx.UpdateJob(&j))
	})
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "fleet", f)(tx.Fleet("f1")), same(t, "run", r)(tx.Run("r1")),
			same(t, "instance", i)(tx.Instance("i1")), same(t, "job", j)(tx.Job("j1")),
		)
	})
}

func testNames(t *testing.T, s *Store) {
	t.Helper()
	write(t, s, seed)
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "user by name", testUser())(tx.UserByName("aDMIN")),
			same(t, "user by token", testUser())(tx.UserByTokenHash(TokenHash("token-1"))),
			same(t, "project by name", testProject())(tx.ProjectByName("mAIN")),
			same(t, "run by name", testRun())(tx.RunByName("p1", "train")),
			same(t, "fleet by name", testFleet())(tx.FleetByName("p1", "lab")),
			same(t, "users by id", map[string]User{"u1": testUser()})(tx.UsersByID([]string{"u1", "x"})),
			same(t, "run names", []string{"train"})(tx.RunNames("p1", "tr")),
			same(t, "fleet names", []string{})(tx.FleetNames("p1", "L")),
		)
	})
	// A name is free again when its row is deleted, and not before.
	taken := map[string]func(*Tx) error{
		"user": func(tx *Tx) error {
			u := testUser()
			u.ID, u.Token, u.Name = "u2", "t2", "ADMIN"
			return tx.InsertUser(&u)
		},
		"token":   func(tx *Tx) error { u := testUser(); u.ID, u.Name = "u2", "other"; return tx.InsertUser(&u) },
		"project": func(tx *Tx) error { p := testProject(); p.ID, p.Name = "p2", "MAIN"; return tx.InsertProject(&p) },
		"fleet":   func(tx *Tx) error { f := testFleet(); f.ID = "f2"; return tx.InsertFleet(&f) },
		"run":     func(tx *Tx) error { r := testRun(); r.ID = "r2"; return tx.InsertRun(&r) },
		"job":     func(tx *Tx) error { j := testJob(); j.ID = "j2"; return tx.InsertJob(&j) },
		"id":      func(tx *Tx) error { i := testInstance(); return tx.InsertInstance(&i) },
	}
	for name, insert := range taken {
		if err := s.Write(t.Context(), insert); !errors.Is(err, ErrExists) {
			t.Errorf("a second %s: %v", name, err)
		}
	}
	write(t, s, func(tx *Tx) error {
		r, f := testRun(), testFleet()
		r.Deleted, f.Deleted = true, true
		return errors.Join(tx.UpdateRun(&r), tx.UpdateFleet(&f))
	})
	write(t, s, func(tx *Tx) error { return errors.Join(taken["run"](tx), taken["fleet"](tx)) })
}

func testVersions(t *testing.T, s *Store) {
	t.Helper()
	write(t, s, seed)
	mine, theirs := testJob(), testJob()
	theirs.Status = api.JobTerminating
	write(t, s, func(tx *Tx) error { return tx.UpdateJob(&theirs) })
	if theirs.Version != 1 {
		t.Errorf("version = %d", theirs.Version)
	}
	mine.Status = api.JobDone
	if err := s.Write(t.Context(), func(tx *Tx) error { return tx.UpdateJob(&mine) }); !errors.Is(err, ErrConflict) {
		t.Errorf("an old row was written: %v", err)
	}
	read(t, s, func(tx *Tx) error { return same(t, "job", theirs)(tx.Job("j1")) })
	// What never changes is left alone.
	renamed := theirs
	renamed.RunName, renamed.Spec.ImageName = "other", "other"
	write(t, s, func(tx *Tx) error { return tx.UpdateJob(&renamed) })
	theirs.Version = renamed.Version
	read(t, s, func(tx *Tx) error { return same(t, "job", theirs)(tx.Job("j1")) })
}

func testMissing(t *testing.T, s *Store) {
	t.Helper()
	for name, find := range map[string]func(*Tx) error{
		"user":     func(tx *Tx) error { _, err := tx.User("x"); return err },
		"token":    func(tx *Tx) error { _, err := tx.UserByTokenHash("x"); return err },
		"project":  func(tx *Tx) error { _, err := tx.ProjectByName("x"); return err },
		"member":   func(tx *Tx) error { _, err := tx.Member("x", "y"); return err },
		"run":      func(tx *Tx) error { _, err := tx.Run("x"); return err },
		"job":      func(tx *Tx) error { _, err := tx.Job("x"); return err },
		"instance": func(tx *Tx) error { _, err := tx.Instance("x"); return err },
		"fleet":    func(tx *Tx) error { _, err := tx.FleetByName("x", "y"); return err },
		"repo":     func(tx *Tx) error { _, err := tx.Repo("x", "y"); return err },
		"creds":    func(tx *Tx) error { _, err := tx.RepoCreds("x", "y"); return err },
	} {
		if err := s.Read(t.Context(), find); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := testRun()
	if err := s.Write(t.Context(), func(tx *Tx) error { return tx.InsertRun(&r) }); err == nil {
		t.Error("a run without its project was stored")
	}
}

func testUndone(t *testing.T, s *Store) {
	t.Helper()
	fault := errors.New("no")
	err := s.Write(t.Context(), func(tx *Tx) error { return errors.Join(seed(tx), fault) })
	if !errors.Is(err, fault) {
		t.Errorf("Write = %v", err)
	}
	read(t, s, func(tx *Tx) error { return same(t, "projects", 0)(tx.CountProjects(ProjectFilter{})) })
	write(t, s, seed)
}

func testPages(t *testing.T, s *Store) {
	t.Helper()
	write(t, s, func(tx *Tx) error {
		u := testUser()
		if err := tx.InsertUser(&u); err != nil {
			return err
		}
		// Two at each time, so that the id decides.
		for i := range 6 {
			p := Project{ID: string(rune('a' + i)), Name: fmt.Sprintf("name_%d", i), OwnerID: u.ID, CreatedAt: at(i / 2)}
			if err := tx.InsertProject(&p); err != nil {
				return err
			}
		}
		return nil
	})
	for _, tt := range []struct {
		asc  bool
		size int
		want string
	}{{false, 1, "efcdab"}, {false, 4, "efcdab"}, {true, 1, "badcfe"}, {true, 5, "badcfe"}} {
		got := ""
		p := Page{Ascending: tt.asc, Limit: tt.size}
		for {
			var page []Project
			read(t, s, func(tx *Tx) (err error) { page, err = tx.Projects(ProjectFilter{Page: p}); return err })
			for _, row := range page {
				got += row.ID
			}
			if len(page) < tt.size {
				break
			}
			last := page[len(page)-1]
			p.PrevTime, p.PrevID = &last.CreatedAt, last.ID
		}
		if got != tt.want {
			t.Errorf("ascending %v by %d: %s, want %s", tt.asc, tt.size, got, tt.want)
		}
	}
	read(t, s, func(tx *Tx) error {
		ids := func(f ProjectFilter) string {
			list, err := tx.Projects(f)
			if err != nil {
				t.Error(err)
			}
			out := ""
			for _, p := range list {
				out += p.ID
			}
			return out
		}
		return errors.Join(
			same(t, "without an id only the time counts", "ab")(ids(ProjectFilter{Page: Page{PrevTime: ptr(at(1))}}), nil),
			same(t, "by pattern, any case", "d")(ids(ProjectFilter{NamePattern: "AME_3"}), nil),
			same(t, "no wildcards", "")(ids(ProjectFilter{NamePattern: "%"}), nil),
			same(t, "count", 6)(tx.CountProjects(ProjectFilter{Page: Page{Limit: 2}})),
		)
	})
}

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

func testProjects(t *testing.T, s *Store) {
	t.Helper()
	write(t, s, func(tx *Tx) error {
		if err := seed(tx); err != nil {
			return err
		}
		u := User{ID: "u2", Name: "bob", Token: "t2"}
		if err := tx.InsertUser(&u); err != nil {
			return err
		}
		for i, p := range []Project{{Name: "open", IsPublic: true}, {Name: "gone", Deleted: true}} {
			p.ID, p.OwnerID, p.CreatedAt = p.Name, "u1", at(30+i)
			if err := tx.InsertProject(&p); err != nil {
				return err
			}
			if err := tx.SetMembers(p.ID, []Member{{UserID: "u1", Role: "user", Num: 7}}); err != nil {
				return err
			}
		}
		return tx.SetMembers("p1", []Member{{UserID: "u2", Role: "user"}, {UserID: "u1", Role: "admin"}})
	})
	names := func(list []Project, err error) (string, error) {
		out := ""
		for _, p := range list {
			out += p.Name + " "
		}
		return out, err
	}
	read(t, s, func(tx *Tx) error {
		ids, err := tx.MemberProjects("u1")
		slices.Sort(ids)
		return errors.Join(
			same(t, "all", "open Main ")(names(tx.Projects(ProjectFilter{}))),
			same(t, "of bob", "Main ")(names(tx.Projects(ProjectFilter{MemberID: "u2"}))),
			same(t, "of bob or public", "open Main ")(names(tx.Projects(ProjectFilter{MemberID: "u2", OrPublic: true}))),
			same(t, "by pattern", "Main ")(names(tx.Projects(ProjectFilter{NamePattern: "AI"}))),
			same(t, "count", 2)(tx.CountProjects(ProjectFilter{})),
			same(t, "by id, deleted ones too", 2)(func() (int, error) {
				m, err := tx.ProjectsByID([]string{"gone", "p1"})
				return len(m), err
			}()),
			same(t, "members in order", []Member{
				{ProjectID: "p1", UserID: "u2", Role: "user"}, {ProjectID: "p1", UserID: "u1", Role: "admin", Num: 1},
			})(tx.Members("p1")),
			same(t, "member", Member{ProjectID: "p1", UserID: "u2", Role: "user"})(tx.Member("p1", "u2")),
			same(t, "projects of u1", []string{"open", "p1"})(ids, err),
		)
	})
}

func testRepos(t *testing.T, s *Store) {
	t.Helper()
	repo := Repo{ID: "x1", ProjectID: "p1", RepoID: "repo-1", Info: []byte(`{"repo_type":"virtual"}`)}
	creds := RepoCreds{RepoPK: "x1", UserID: "u1", Creds: api.RemoteRepoCreds{CloneURL: "https://h/r", OAuthToken: ptr("secret")}}
	write(t, s, func(tx *Tx) error {
		return errors.Join(seed(tx), tx.PutRepo(&repo), tx.PutRepoCreds(&creds))
	})
	again := Repo{ID: "x2", ProjectID: "p1", RepoID: "repo-1", Info: []byte(`{"repo_type":"local"}`)}
	creds.Creds.OAuthToken = nil
	write(t, s, func(tx *Tx) error { return errors.Join(tx.PutRepo(&again), tx.PutRepoCreds(&creds)) })
	if again.ID != "x1" {
		t.Errorf("the repo has id %s now", again.ID)
	}
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "repo", again)(tx.Repo("p1", "repo-1")),
			same(t, "repos", []Repo{again})(tx.Repos("p1")),
			same(t, "creds", creds)(tx.RepoCreds("x1", "u1")),
		)
	})
	write(t, s, func(tx *Tx) error { return tx.DeleteRepos("p1", []string{"unknown", "repo-1"}) })
	if err := s.Read(t.Context(), func(tx *Tx) error { _, err := tx.RepoCreds("x1", "u1"); return err }); !errors.Is(err, ErrNotFound) {
		t.Errorf("credentials outlive their repo: %v", err)
	}
}

func testEvents(t *testing.T, s *Store) {
	t.Helper()
	target := func(typ, id string) EventTarget {
		return EventTarget{Type: typ, ID: id, Name: id, ProjectID: ptr("p1")}
	}
	job := target("job", "j1")
	job.RunID = ptr("r1")
	host := target("instance", "i1")
	host.FleetID = ptr("f1")
	list := []Event{
		{ID: "1", Message: "Run submitted", RecordedAt: at(1), ActorID: ptr("u1"), Targets: []EventTarget{target("run", "r1"), job}},
		{ID: "2", Message: "Job status changed", RecordedAt: at(2), Targets: []EventTarget{job, host}},
		{ID: "3", Message: "Fleet created", RecordedAt: at(3), ActorID: ptr("u2"), Targets: []EventTarget{target("fleet", "f1")}},
		{ID: "4", Message: "User created", RecordedAt: at(4), ActorID: ptr("u1"), Targets: []EventTarget{{Type: "user", ID: "u9", Name: "new"}}},
		{ID: "5", Message: "Project created", RecordedAt: at(5), Targets: []EventTarget{{Type: "project", ID: "p2", Name: "p2"}}},
	}
	write(t, s, func(tx *Tx) error { return tx.InsertEvents(list...) })
	ids := func(tx *Tx, f EventFilter) string {
		got, err := tx.Events(f)
		if err != nil {
			t.Error(err)
		}
		out := ""
		for _, e := range got {
			out += e.ID
		}
		return out
	}
	read(t, s, func(tx *Tx) error {
		for _, tt := range []struct {
			name   string
			filter EventFilter
			want   string
		}{
			{"all", EventFilter{}, "54321"},
			{"about a run", EventFilter{TargetType: "run", TargetIDs: []string{"r1", "x"}}, "1"},
			{"about a job", EventFilter{TargetType: "job", TargetIDs: []string{"j1"}}, "21"},
			{"within a run", EventFilter{WithinRuns: []string{"r1"}}, "21"},
			{"within a fleet", EventFilter{WithinFleets: []string{"f1"}}, "32"},
			{"within a project", EventFilter{WithinProjects: []string{"p1"}}, "321"},
			{"within its own project", EventFilter{WithinProjects: []string{"p2"}}, "5"},
			{"types", EventFilter{IncludeTypes: []string{"user", "fleet"}}, "43"},
			{"one target has to meet all", EventFilter{WithinFleets: []string{"f1"}, IncludeTypes: []string{"job"}}, ""},
			{"actors", EventFilter{Actors: []string{"u2"}}, "3"},
			{"the system", EventFilter{System: true}, "52"},
			{"an actor or the system", EventFilter{Actors: []string{"u2"}, System: true}, "532"},
			{"visible: a project", EventFilter{Visible: &EventView{UserID: "u2", ProjectIDs: []string{"p1"}}}, "321"},
			{"visible: oneself", EventFilter{Visible: &EventView{UserID: "u9"}}, "4"},
			{"visible: nothing", EventFilter{Visible: &EventView{UserID: "u8"}, WithinRuns: []string{"r1"}}, ""},
			{"page", EventFilter{Page: Page{PrevTime: ptr(at(4)), PrevID: "4", Limit: 2}}, "32"},
			{"ascending", EventFilter{Page: Page{Ascending: true}}, "12345"},
		} {
			if got := ids(tx, tt.filter); got != tt.want {
				t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			}
		}
		got, err := tx.Events(EventFilter{TargetType: "instance", TargetIDs: []string{"i1"}})
		return same(t, "event with all targets", list[1:2])(got, err)
	})
	write(t, s, func(tx *Tx) error {
		return same(t, "deleted", int64(2))(tx.DeleteEvents(at(3)))
	})
	read(t, s, func(tx *Tx) error { return same(t, "left", "543")(ids(tx, EventFilter{}), nil) })
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

func testReset(t *testing.T, s *Store) {
	t.Helper()
	for range 2 {
		write(t, s, func(tx *Tx) error {
			return errors.Join(seed(tx), tx.Wake(at(1), Key{KindRun, "r1"}),
				tx.InsertEvents(Event{ID: "e", Targets: []EventTarget{{Type: "run", ID: "r1"}}}))
		})
		if err := s.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		read(t, s, func(tx *Tx) error {
			return errors.Join(same(t, "projects", 0)(tx.CountProjects(ProjectFilter{})), same(t, "work", []Key{})(tx.AllWork()))
		})
	}
}

func testClosed(t *testing.T, s *Store) {
	t.Helper()
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), seed); !errors.Is(err, ErrClosed) {
		t.Errorf("Write = %v", err)
	}
	if err := s.Read(t.Context(), func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("Read = %v", err)
	}
}
