package sweep_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/store"
	"dstack/controller/sweep"
)

// join adds a project with an account of another cloud.
func (s *server) join(projectID string) *fake.Cloud {
	s.w.Helper()
	other := fake.New(fake.Config{Now: func() time.Time { return s.w.at }, Regions: []string{"region-2"}})
	s.others = map[string]*fake.Cloud{projectID: other}
	s.write(func(tx *store.Tx) error {
		project := store.Project{ID: projectID, Name: projectID, OwnerID: "u", CreatedAt: s.w.at}
		return errors.Join(tx.InsertProject(&project), tx.InsertBackend(&store.Backend{ID: "b-" + projectID, ProjectID: projectID, Type: fake.Type, Spec: []byte("{}")}))
	})
	return other
}

// An account that does not answer holds what is its own, and nothing else.
func TestSilentAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.server(t.TempDir())
	other := s.join("q")
	spec := backends.MachineSpec{Region: "region-2", Type: "small"}
	theirs := map[string]string{}
	known := s.rent(true, 10)
	for n := range 23 {
		if n == 20 { // those before are a stranger's, so that no id is one of the first cloud
			spec.Tags = map[string]string{backends.TagServer: s.tag}
		}
		spec.Token = fmt.Sprint("other-", n)
		m, err := other.Open().Create(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if spec.Tags != nil {
			theirs["of q: "+m.ID] = string(sweep.HoldMany)
		}
	}
	w.at = w.at.Add(time.Hour)
	held := func(report sweep.Report, err error) map[string]string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, x := range report.Strays {
			if x.ProjectID == "q" {
				x.MachineID = "of q: " + x.MachineID
			}
			out[x.MachineID] = x.Hold
		}
		return out
	}
	same(t, "all answer", held(s.Sweep(t.Context())), theirs)
	report, err := s.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, x := range report.Strays {
		ids = append(ids, x.ID)
	}
	other.Inject(fake.Fault{Op: "list", Lost: true})
	other.Inject(fake.Fault{Op: "delete", Err: backends.Error{Kind: backends.Transient, Message: "no answer"}})
	lost := s.rent(false, 1)[0]
	w.at = w.at.Add(time.Hour)
	theirs[lost.ID] = string(sweep.HoldMany)
	same(t, "three of them are hidden", held(s.Sweep(t.Context())), theirs)
	w.alive(append(known, lost)...)
	for id := range theirs {
		theirs[id] = ""
	}
	same(t, "and shall end", held(s.Confirm(t.Context(), ids)), theirs)
	w.alive(known...)
	if n := len(other.Alive()); n != 23 {
		t.Errorf("%d machines are in the account that does not answer", n)
	}
}

// What its cloud does not end is asked for less and less often, and told once.
func TestCloudRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.server(t.TempDir())
		known, lost := s.rent(true, 10), s.rent(false, 1)[0]
		w.at = w.at.Add(time.Hour)
		begin, offset := time.Now(), w.at
		s.Sweeper = sweep.New(sweep.Options{
			Store: s.store, Clouds: s, Has: func(b string) bool { return b == fake.Type },
			Now: func() time.Time { return offset.Add(time.Since(begin)) }, NewID: w.newID, Log: zerolog.Nop(),
		})
		w.cloud.Inject(fake.Fault{Op: "delete", Err: backends.Error{Kind: backends.Permission, Message: "it is protected"}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(3 * time.Hour)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		w.alive(append(known, lost)...)
		if n := w.cloud.Calls("delete"); n < 15 || n > 30 {
			t.Errorf("asked %d times in three hours", n)
		}
		// Ten known machines and one more are three pages.
		if n := w.cloud.Calls("list"); n > 3*30 {
			t.Errorf("listed %d times in three hours", n)
		}
		if list := s.events(); len(list) != 2 || !strings.Contains(list[1], "could not be ended") || !strings.Contains(list[1], "it is protected") {
			t.Errorf("events: %q", list)
		}
	})
}
