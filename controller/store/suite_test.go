package store

import (
	"errors"
	"fmt"
	"os"
	"slices"
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
		"files":                        testFiles,
		"secrets":                      testSecrets,
		"strays":                       testStrays,
		"settings":                     testSettings,
		"metrics":                      testMetrics,
		"backends":                     testBackends,
		"gateways":                     testGateways,
		"machines of clouds":           testMachines,
		"volumes":                      testVolumes,
		"health checks":                testHealthChecks,
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

func testReset(t *testing.T, s *Store) {
	t.Helper()
	for range 2 {
		write(t, s, func(tx *Tx) error {
			return errors.Join(seed(tx), tx.Wake(at(1), Key{KindRun, "r1"}), tx.PutSetting("memory", "x"),
				tx.InsertEvents(Event{ID: "e", Targets: []EventTarget{{Type: "run", ID: "r1"}}}))
		})
		if err := s.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		read(t, s, func(tx *Tx) error {
			return errors.Join(same(t, "projects", 0)(tx.CountProjects(ProjectFilter{})), same(t, "work", []Key{})(tx.AllWork()),
				same(t, "setting", "")(tx.Setting("memory")))
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
