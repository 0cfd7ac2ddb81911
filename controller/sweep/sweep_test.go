package sweep_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/market"
	"dstack/controller/store"
	"dstack/controller/sweep"
	"dstack/protocol/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a cloud with a clock that only the test moves.
type world struct {
	*testing.T
	at    time.Time
	cloud *fake.Cloud
	ids   int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, at: now()}
	w.cloud = fake.New(fake.Config{Now: func() time.Time { return w.at }, Stop: time.Minute, Shown: time.Hour})
	return w
}

func (w *world) newID() string {
	w.ids++
	return fmt.Sprint("id-", w.ids)
}

// server is a server with an account of the world's cloud. Its folder is dir.
type server struct {
	*sweep.Sweeper
	w     *world
	dir   string
	store *store.Store
	// tag is what its machines carry; moved is what its start said.
	tag   string
	moved bool
	// others are the clouds of other projects than the first.
	others map[string]*fake.Cloud
}

func (w *world) server(dir string) *server {
	w.Helper()
	s := &server{w: w, dir: dir}
	s.start()
	w.Cleanup(s.stop)
	return s
}

func (s *server) stop() {
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.w.Error(err)
		}
		s.store = nil
	}
}

// start opens the database, as a server does, and makes it if there is none.
func (s *server) start() {
	s.w.Helper()
	path := filepath.Join(s.dir, "db")
	_, statErr := os.Stat(path)
	st, err := store.Open(s.w.Context(), store.Options{Path: path, Inline: true})
	if err != nil {
		s.w.Fatal(err)
	}
	s.store = st
	id := ""
	s.write(func(tx *store.Tx) (err error) {
		if id, err = tx.ServerID(s.w.newID()); err != nil || statErr == nil {
			return err
		}
		user := store.User{ID: "u", Name: "u", GlobalRole: "admin", Token: "t", CreatedAt: s.w.at}
		project := store.Project{ID: "p", Name: "main", OwnerID: "u", CreatedAt: s.w.at}
		fleet := store.Fleet{ID: "f", ProjectID: "p", Name: "f", Status: api.FleetActive}
		backend := store.Backend{ID: "b", ProjectID: "p", Type: fake.Type, Spec: []byte("{}")}
		return errors.Join(tx.InsertUser(&user), tx.InsertProject(&project), tx.InsertFleet(&fleet), tx.InsertBackend(&backend))
	})
	ground, err := sweep.Ground(s.dir, s.w.newID)
	if err != nil {
		s.w.Fatal(err)
	}
	m, moved, err := sweep.Begin(s.w.Context(), st, id, ground, s.w.at, s.w.newID)
	if err != nil {
		s.w.Fatal(err)
	}
	s.tag, s.moved = m.Tag, moved
	s.Sweeper = sweep.New(sweep.Options{
		Store: st, Clouds: s, Has: func(b string) bool { return b == fake.Type },
		Now: func() time.Time { return s.w.at }, NewID: s.w.newID, Log: zerolog.Nop(),
	})
}

func (s *server) write(fn func(*store.Tx) error) {
	s.w.Helper()
	if err := s.store.Write(s.w.Context(), fn); err != nil {
		s.w.Fatal(err)
	}
}

func (s *server) Open(_ context.Context, projectID, _ string) (backends.Backend, error) {
	if other := s.others[projectID]; other != nil {
		return other.Open(), nil
	}
	return s.w.cloud.Open(), nil
}

func (s *server) Peek(configured []store.Backend) []market.Shelf {
	list, err := s.w.cloud.Open().Offers(s.w.Context())
	if err != nil {
		s.w.Error(err)
	}
	return []market.Shelf{{Backend: configured[0].Type, List: market.List{Offers: list}, Ready: true}}
}

// rent makes machines in the cloud; known ones are in the database.
func (s *server) rent(known bool, n int) []backends.Machine {
	s.w.Helper()
	var out []backends.Machine
	for range n {
		token := s.w.newID()
		m, err := s.w.cloud.Open().Create(s.w.Context(), backends.MachineSpec{
			Token: token, Region: "region-1", Type: "small", Tags: map[string]string{backends.TagServer: s.tag},
		})
		if err != nil {
			s.w.Fatal(err)
		}
		out = append(out, m)
		if !known {
			continue
		}
		s.write(func(tx *store.Tx) error {
			return tx.InsertInstance(&store.Instance{
				ID: token, ProjectID: "p", FleetID: "f", Name: token, Num: s.w.ids, Status: api.InstanceBusy, Backend: fake.Type, CreatedAt: s.w.at, LastProcessedAt: s.w.at,
				Machine: &store.Machine{Backend: fake.Type, Token: token, ID: m.ID, Region: "region-1", AskedAt: s.w.at},
			})
		})
	}
	return out
}

// sweep looks once; what it says of each stray comes by the machine's id.
func (s *server) sweep() map[string]string {
	s.w.Helper()
	report, err := s.Sweep(s.w.Context())
	if err != nil {
		s.w.Fatal(err)
	}
	return holds(report)
}

func holds(r sweep.Report) map[string]string {
	out := map[string]string{}
	for _, x := range r.Strays {
		out[x.MachineID] = x.Hold
	}
	return out
}

func (s *server) events() []string {
	s.w.Helper()
	var out []string
	err := s.store.Read(s.w.Context(), func(tx *store.Tx) error {
		list, err := tx.Events(store.EventFilter{Page: store.Page{Ascending: true}})
		for _, e := range list {
			out = append(out, e.Message)
		}
		return err
	})
	if err != nil {
		s.w.Fatal(err)
	}
	return out
}

// alive says that these and no others cost money.
func (w *world) alive(list ...backends.Machine) {
	w.Helper()
	got, want := []string{}, []string{}
	for _, m := range w.cloud.Alive() {
		got = append(got, m.ID)
	}
	for _, m := range list {
		want = append(want, m.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.Errorf("machines that live (-want +got):\n%s", diff)
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.server(t.TempDir())
	known := s.rent(true, 10)
	same(t, "nothing", s.sweep(), map[string]string{})
	lost := s.rent(false, 1)[0]
	same(t, "a young one", s.sweep(), map[string]string{})
	w.at = w.at.Add(sweep.MinAge)
	w.cloud.Inject(fake.Fault{Op: "delete", Times: 1, Err: backends.Error{Kind: backends.Transient, Message: "no answer"}})
	same(t, "found", s.sweep(), map[string]string{lost.ID: ""})
	w.alive(append(known, lost)...)
	same(t, "again", s.sweep(), map[string]string{lost.ID: ""})
	w.alive(known...)
	w.at = w.at.Add(2 * time.Minute)
	same(t, "gone", s.sweep(), map[string]string{})
	since := now().Format(time.RFC3339)
	machine := "Machine " + lost.ID + " of dstack (small, region-1, $0.1 an hour, since " + since + ")"
	same(t, "events", s.events(), []string{machine + " is in no fleet. It is being ended", machine + ", which was in no fleet, is gone"})
}

func TestManyWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.server(t.TempDir())
	lost := s.rent(false, 3)
	w.at = w.at.Add(time.Hour)
	many := string(sweep.HoldMany)
	same(t, "held", s.sweep(), map[string]string{lost[0].ID: many, lost[1].ID: many, lost[2].ID: many})
	same(t, "still", s.sweep(), map[string]string{lost[0].ID: many, lost[1].ID: many, lost[2].ID: many})
	w.alive(lost...)
	if list := s.events(); len(list) != 3 || !strings.Contains(list[0], "$0.1 an hour") || !strings.Contains(list[0], "dstack server sweep") {
		t.Errorf("events: %q", list)
	}
	report, err := s.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	report, err = s.Confirm(t.Context(), []string{report.Strays[0].ID, report.Strays[1].ID, "unknown"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "confirmed", holds(report), map[string]string{lost[0].ID: "", lost[1].ID: "", lost[2].ID: many})
	w.alive(lost[2])
}

// A machine that came of an attempt which was given up is nobody's for sure.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.server(t.TempDir())
	lost := s.rent(false, 3)
	s.write(func(tx *store.Tx) error {
		i := &store.Instance{ID: "i", ProjectID: "p", FleetID: "f", Name: "i", Status: api.InstanceTerminated, Deleted: true}
		for _, m := range lost {
			i.Tried = append(i.Tried, store.Try{Token: m.Token})
		}
		return tx.InsertInstance(i)
	})
	w.at = w.at.Add(time.Hour)
	same(t, "all", s.sweep(), map[string]string{lost[0].ID: "", lost[1].ID: "", lost[2].ID: ""})
	w.alive()
}

// An account that does not answer may have more of them.
func TestPartial(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.server(t.TempDir())
	known, lost := s.rent(true, 10), s.rent(false, 1)
	w.at = w.at.Add(time.Hour)
	w.cloud.Inject(fake.Fault{Op: "list", Region: "region-1", Times: 2, Lost: true})
	report, err := s.Sweep(t.Context())
	if err != nil || len(report.Missing) != 1 {
		t.Errorf("%v, %v", report, err)
	}
	w.alive(append(known, lost...)...)
}

func TestTwoServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.server(t.TempDir()), w.server(t.TempDir())
	all := append(a.rent(true, 12), b.rent(true, 12)...)
	w.at = w.at.Add(24 * time.Hour)
	same(t, "a", a.sweep(), map[string]string{})
	same(t, "b", b.sweep(), map[string]string{})
	w.alive(all...)
}

// clone copies a server's folder, as a backup does; a file that is left out
// is not there.
func (s *server) clone(dir string, files ...string) {
	s.w.Helper()
	s.stop()
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(s.dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			s.w.Fatal(err)
		}
	}
	s.start()
}

// A server that is restored from yesterday's copy of the database beside the
// one that goes on: neither ends a machine of the other, ever.
func TestCopyBesideOriginal(t *testing.T) {
	t.Parallel()
	for name, files := range map[string][]string{"whole folder": {"db", "ground"}, "database alone": {"db"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.server(t.TempDir())
			all := a.rent(true, 20)
			dir := t.TempDir()
			a.clone(dir, files...)
			if a.moved {
				t.Error("the original was told that it moved")
			}
			w.at = w.at.Add(24 * time.Hour)
			between := a.rent(true, 1)
			b := w.server(dir)
			if !b.moved || b.tag == a.tag {
				t.Errorf("the copy: moved %v, tag %q", b.moved, b.tag)
			}
			later, theirs := a.rent(true, 1), b.rent(true, 1)
			all = append(append(append(all, between...), later...), theirs...)
			for range 3 {
				w.at = w.at.Add(24 * time.Hour)
				former := string(sweep.HoldFormer)
				same(t, "the copy", b.sweep(), map[string]string{between[0].ID: former, later[0].ID: former})
				same(t, "the original", a.sweep(), map[string]string{})
				b.stop()
				b.start() // it is no more restored than before
			}
			w.alive(all...)
		})
	}
}

// A database that is set back where it was ends nothing of what it forgot.
func TestSetBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.server(t.TempDir())
	all := s.rent(true, 20)
	backup := t.TempDir()
	s.clone(backup, "db")
	w.at = w.at.Add(24 * time.Hour)
	forgotten := s.rent(true, 1)
	s.stop()
	data, err := os.ReadFile(filepath.Join(backup, "db"))
	if err == nil {
		err = os.WriteFile(filepath.Join(s.dir, "db"), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.at = w.at.Add(time.Hour)
	s.start()
	if s.moved {
		t.Error("it was told that it moved")
	}
	for range 3 {
		same(t, "held", s.sweep(), map[string]string{forgotten[0].ID: string(sweep.HoldBlind)})
		w.at = w.at.Add(48 * time.Hour)
		same(t, "for ever", s.sweep(), map[string]string{forgotten[0].ID: string(sweep.HoldBlind)})
		s.stop()
		s.start()
	}
	w.at = w.at.Add(time.Hour)
	w.alive(append(all, forgotten...)...)
	// What comes to be unknown later is no concern of that time.
	lost := s.rent(false, 1)
	w.at = w.at.Add(time.Hour)
	same(t, "others are held", s.sweep(), map[string]string{forgotten[0].ID: string(sweep.HoldBlind), lost[0].ID: string(sweep.HoldOthers)})
}

// While no project has the account of a stray, nobody knows what became of it:
// it is neither gone, nor is forgotten why it is held.
func TestAccountRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.server(t.TempDir())
	all := a.rent(true, 20)
	dir := t.TempDir()
	a.clone(dir, "db")
	between := a.rent(true, 1)
	w.at = w.at.Add(time.Hour)
	b := w.server(dir)
	held := map[string]string{between[0].ID: string(sweep.HoldFormer)}
	same(t, "before", b.sweep(), held)
	b.write(func(tx *store.Tx) error { return tx.DeleteBackend("p", fake.Type) })
	for range 2 {
		w.at = w.at.Add(time.Hour)
		same(t, "without the backend", b.sweep(), held)
	}
	b.write(func(tx *store.Tx) error {
		project := store.Project{ID: "q", Name: "second", OwnerID: "u", CreatedAt: w.at}
		return errors.Join(tx.InsertProject(&project), tx.InsertBackend(&store.Backend{ID: "c", ProjectID: "q", Type: fake.Type, Spec: []byte("{}")}))
	})
	same(t, "in another project", b.sweep(), held)
	w.alive(append(all, between...)...)
	b.stray(between[0].ID, "q")
}

// stray checks through which project a stray is reached.
func (s *server) stray(machine, project string) {
	s.w.Helper()
	err := s.store.Read(s.w.Context(), func(tx *store.Tx) error {
		list, err := tx.Strays()
		for _, x := range list {
			if x.MachineID == machine && x.ProjectID != project {
				s.w.Errorf("the stray is of project %s, want %s", x.ProjectID, project)
			}
		}
		return err
	})
	if err != nil {
		s.w.Fatal(err)
	}
}
