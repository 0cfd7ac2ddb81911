package sweep_test

import (
	"strings"
	"testing"
	"time"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/store"
	"dstack/controller/sweep"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// keep makes a volume in the cloud; a known one is in the database.
func (s *server) keep(known bool) backends.Volume {
	s.w.Helper()
	token := s.w.newID()
	v, err := s.w.cloud.Open().CreateVolume(s.w.Context(), backends.VolumeSpec{
		Token: token, Name: "data", Region: "region-1", SizeGB: 100, Tags: map[string]string{backends.TagServer: s.tag},
	})
	if err != nil {
		s.w.Fatal(err)
	}
	if known {
		row := store.Volume{
			ID: token, ProjectID: "p", UserID: "u", Name: token, Status: api.VolumeActive, CreatedAt: s.w.at, LastProcessedAt: s.w.at, Token: token,
			Configuration: config.Volume{Type: "volume", Backend: fake.Type, Region: "region-1"},
			Provisioning:  &api.VolumeProvisioningData{VolumeID: v.ID},
		}
		s.write(func(tx *store.Tx) error { return tx.InsertVolume(&row) })
	}
	return v
}

func (w *world) volumes(want int) {
	w.Helper()
	if got := w.cloud.Volumes(); len(got) != want {
		w.Errorf("%d volumes, want %d: %+v", len(got), want, got)
	}
}

// A volume that was made after the backup is reported with its cost, and stays
// until somebody says that its data may go.
func TestForgottenVolume(t *testing.T) {
	t.Parallel()
	for name, files := range map[string][]string{"in its place": nil, "elsewhere": {"db"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.server(t.TempDir())
			a.keep(true)
			old, hold := t.TempDir(), string(sweep.HoldFormer)
			a.clone(old, "db")
			forgotten := a.keep(true)
			same(t, "before", a.sweep(), map[string]string{})
			w.at = w.at.Add(time.Hour)
			b := w.server(old)
			if files == nil {
				b, hold = a, string(sweep.HoldData)
				a.write(func(tx *store.Tx) error { return forget(tx, forgotten.ID) })
			}
			for range 2 {
				w.at = w.at.Add(48 * time.Hour)
				same(t, "held", b.sweep(), map[string]string{forgotten.ID: hold})
			}
			if list := b.events(); len(list) != 1 || !strings.Contains(list[0], "Volume "+forgotten.ID+" of dstack (100 GB, region-1, $0.0137 an hour, since 2026") {
				t.Errorf("events: %q", list)
			}
			report, err := b.Sweep(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ids := []string{report.Strays[0].ID}
			if _, err := b.Confirm(t.Context(), ids); err != nil {
				t.Fatal(err)
			}
			w.volumes(2)
			if _, err := b.Confirm(t.Context(), nil, ids...); err != nil {
				t.Fatal(err)
			}
			w.volumes(1)
			same(t, "after", b.sweep(), map[string]string{})
		})
	}
}

// forget makes a volume one that was deleted from the database long ago, as if
// it had never been there.
func forget(tx *store.Tx, id string) error {
	list, err := tx.Volumes(store.VolumeFilter{})
	if err != nil {
		return err
	}
	for i := range list {
		if v := &list[i]; v.Provisioning.VolumeID == id {
			v.Deleted = true
			return tx.UpdateVolume(v)
		}
	}
	return nil
}

// A volume that waits for somebody keeps no machine alive, and is no reason to
// count machines.
func TestVolumesHoldNoMachines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.server(t.TempDir())
	known := s.rent(true, 10)
	for range 3 {
		s.keep(false)
	}
	lost := s.rent(false, 1)[0]
	w.at = w.at.Add(time.Hour)
	if got := s.sweep(); got[lost.ID] != "" || len(got) != 4 {
		t.Errorf("%v", got)
	}
	w.alive(known...)
	w.volumes(3)
	// An account that does not list its volumes keeps what it was known to have.
	w.at = w.at.Add(time.Hour)
	w.cloud.Inject(fake.Fault{Op: "list volumes", Err: backends.Error{Kind: backends.Permission, Message: "not allowed"}})
	report, err := s.Sweep(t.Context())
	if err != nil || len(report.Missing) != 1 || len(report.Strays) != 3 {
		t.Errorf("%+v, %v", report, err)
	}
	lost = s.rent(false, 1)[0]
	w.at = w.at.Add(time.Hour)
	if got := s.sweep(); got[lost.ID] != "" {
		t.Errorf("%v", got)
	}
	w.alive(known...)
}

// An address that outlived its machine is given back, unless it is another
// server's.
func TestAddressWithoutMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.server(t.TempDir())
	gone := s.rent(true, 1)[0]
	if err := w.cloud.Open().Delete(t.Context(), gone.Ref); err != nil {
		t.Fatal(err)
	}
	w.cloud.Leave(s.tag, backends.Address{ID: "a-1", Region: "region-1", IP: "192.0.2.7", Machine: "unknown", Price: 0.005})
	w.cloud.Leave(s.tag, backends.Address{ID: "a-2", Region: "region-1", IP: "192.0.2.8", Machine: gone.ID})
	w.cloud.Leave("another", backends.Address{ID: "a-3", Region: "region-1", IP: "192.0.2.9", Machine: "unknown"})
	same(t, "found", s.sweep(), map[string]string{"a-1": ""})
	w.at = w.at.Add(time.Second)
	same(t, "given back", s.sweep(), map[string]string{})
	address := "Address a-1 of dstack (192.0.2.7, region-1, $0.005 an hour)"
	same(t, "events", s.events(), []string{address + " outlived its machine. It is being given back", address + ", which outlived its machine, is gone"})
	for server, want := range map[string]int{s.tag: 1, "another": 1} {
		if left, err := w.cloud.Open().LooseAddresses(t.Context(), server); err != nil || len(left) != want {
			t.Errorf("%s has %+v, %v", server, left, err)
		}
	}
}
