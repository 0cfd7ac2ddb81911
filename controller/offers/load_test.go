package offers

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

func TestLoad(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.Context(), store.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	at := time.Unix(1000, 0)
	ours, theirs := store.Project{ID: "p1", Name: "ours", OwnerID: "u"}, store.Project{ID: "p2", Name: "theirs", OwnerID: "u"}
	err = s.Write(t.Context(), func(tx *store.Tx) error {
		if err := tx.InsertUser(&store.User{ID: "u", Name: "u"}); err != nil {
			return err
		}
		for _, p := range []*store.Project{&ours, &theirs} {
			if err := tx.InsertProject(p); err != nil {
				return err
			}
		}
		for i, f := range []store.Fleet{
			{ID: "lent", ProjectID: "p2", Name: "gpu"}, {ID: "kept", ProjectID: "p2", Name: "kept"},
			{ID: "gone", ProjectID: "p2", Name: "gone", Deleted: true}, {ID: "own", ProjectID: "p1", Name: "gpu"},
		} {
			f.Status, f.CreatedAt = api.FleetActive, at.Add(time.Duration(i)*time.Second)
			if err := tx.InsertFleet(&f); err != nil {
				return err
			}
			for n, status := range []api.InstanceStatus{api.InstanceIdle, api.InstanceTerminated} {
				in := store.Instance{ID: fmt.Sprint(f.ID, n), ProjectID: f.ProjectID, FleetID: f.ID, Num: n, Status: status, TotalBlocks: 1}
				if err := tx.InsertInstance(&in); err != nil {
					return err
				}
			}
		}
		for _, name := range []string{"a", "b"} { // the same fleet twice is one pool
			if err := tx.InsertExport(&store.Export{ID: name, ProjectID: "p2", Name: name}); err != nil {
				return err
			}
			for _, id := range []string{"lent", "gone"} {
				if err := tx.ExportFleet(name, id); err != nil {
					return err
				}
			}
			if err := tx.InsertImport(&store.Import{ID: name, ExportID: name, ProjectID: "p1"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var pools []Pool
	if err := s.Read(t.Context(), func(tx *store.Tx) (err error) {
		pools, err = Load(tx, ours)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range pools {
		for _, in := range p.Instances {
			got = append(got, fmt.Sprintf("%s/%s %v %s", p.Project, p.Fleet.Name, p.Imported, in.ID))
		}
	}
	if diff := cmp.Diff([]string{"ours/gpu false own0", "theirs/gpu true lent0"}, got); diff != "" {
		t.Errorf("pools (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{"gpu": "own", "theirs/gpu": "lent", "ours/gpu": "own", "other/gpu": ""} {
		ref, ok := config.ParseReference(name)
		if !ok {
			t.Fatalf("%s is no reference", name)
		}
		found := ""
		for _, g := range Find(Request{Profile: config.ProfileParams{Fleets: []config.EntityReference{ref}}}, pools).Groups {
			found += g.Fleet.ID
		}
		if found != want {
			t.Errorf("fleets: [%s] finds %q, want %q", name, found, want)
		}
	}
}
