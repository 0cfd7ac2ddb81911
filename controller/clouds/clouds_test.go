package clouds_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/clouds"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is the accounts of a store with one project that has the backend.
type rig struct {
	*clouds.Clouds
	t       *testing.T
	store   *store.Store
	row     store.Backend
	arrived []string
	calls   []string
}

func newRig(t *testing.T, cloud *fake.Cloud) *rig {
	t.Helper()
	return newRigOf(t, fake.Driver{Cloud: cloud})
}

func newRigOf(t *testing.T, driver backends.Driver) *rig {
	t.Helper()
	st, err := store.Open(t.Context(), store.Options{Memory: true, Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, store: st, row: store.Backend{ID: "b", ProjectID: "p", Type: fake.Type, Spec: []byte(`{"first":1}`)}}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r.write(func(tx *store.Tx) error {
		user := store.User{ID: "u", Name: "u", GlobalRole: "admin", Token: "t", CreatedAt: now}
		project := store.Project{ID: "p", Name: "main", OwnerID: "u", CreatedAt: now}
		return errors.Join(tx.InsertUser(&user), tx.InsertProject(&project), tx.InsertBackend(&r.row))
	})
	r.Clouds = clouds.New(clouds.Options{
		Store: st, Drivers: map[string]backends.Driver{fake.Type: driver}, Now: time.Now, Log: zerolog.Nop(),
		Report: func(c backends.Call, _ time.Duration, kind backends.Kind) {
			r.calls = append(r.calls, c.Backend+" "+c.Op+" "+string(kind))
		},
		Arrived: func(project string) { r.arrived = append(r.arrived, project) },
	})
	return r
}

func (r *rig) write(fn func(*store.Tx) error) {
	r.t.Helper()
	if err := r.store.Write(r.t.Context(), fn); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) close() {
	r.Close()
	if err := r.store.Close(); err != nil {
		r.t.Error(err)
	}
}

func TestPeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, fake.New(fake.Config{Now: time.Now}))
		defer r.close()
		other := store.Backend{ProjectID: "p", Type: "nobody's"}
		rows := []store.Backend{other, r.row}
		if got := r.Peek(rows); len(got) != 1 || got[0].Ready || got[0].Backend != fake.Type {
			t.Errorf("before the cloud answered: %+v", got)
		}
		synctest.Wait()
		got := r.Peek(rows)
		if len(got) != 1 || !got[0].Ready || len(got[0].Offers) == 0 || got[0].Missing != "" {
			t.Fatalf("afterwards: %+v", got)
		}
		if len(r.arrived) != 1 || r.arrived[0] != "p" {
			t.Errorf("arrived: %q", r.arrived)
		}
		sold := got[0].Offers[0]
		r.Refused("p", fake.Type, sold, &backends.Error{Kind: backends.NoCapacity, Message: "none left"})
		if got := r.Peek(rows)[0].Offers[0].Availability; got != "not_available" {
			t.Errorf("what was refused is %s", got)
		}
		r.Given("p", fake.Type, sold)
		if got := r.Peek(rows)[0].Offers[0].Availability; got != "available" {
			t.Errorf("what was given is %s", got)
		}
		r.row.Spec = []byte(`{"second":2}`) // another account knows nothing yet
		if got := r.Peek([]store.Backend{r.row}); got[0].Ready {
			t.Errorf("with another configuration: %+v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if got, err := r.Stock(ctx, "p"); err != nil || len(got) != 1 || !got[0].Ready || len(got[0].Offers) == 0 {
			t.Errorf("somebody who waits: %+v, %v", got, err)
		}
	})
}

func TestOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := fake.New(fake.Config{Now: time.Now})
		r := newRig(t, cloud)
		defer r.close()
		if _, err := r.Open(t.Context(), "p", "aws"); !errors.Is(err, backends.Config) {
			t.Errorf("a backend that is not configured: %v", err)
		}
		b, err := r.Open(t.Context(), "p", fake.Type)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := backends.VolumesOf(b); !ok {
			t.Error("its powers are gone")
		}
		cloud.Inject(fake.Fault{Op: "create", Times: 1, Err: backends.Error{Kind: backends.Quota}})
		if _, err := b.Create(t.Context(), backends.MachineSpec{Token: "t", Region: "region-1", Type: "small"}); !errors.Is(err, backends.Quota) {
			t.Errorf("create: %v", err)
		}
		if len(r.calls) != 1 || r.calls[0] != "dstack create quota" {
			t.Errorf("reported: %q", r.calls)
		}
		r.write(func(tx *store.Tx) error { return tx.DeleteBackend("p", fake.Type) })
		if _, err := r.Open(t.Context(), "p", fake.Type); !errors.Is(err, backends.Config) {
			t.Errorf("a backend that was deleted: %v", err)
		}
	})
}

// TestKeepsVolumes refuses a configuration with which a volume would be lost.
func TestKeepsVolumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := fake.New(fake.Config{Now: time.Now})
		r := newRig(t, mine)
		defer r.close()
		made, err := mine.Open().CreateVolume(t.Context(), backends.VolumeSpec{Token: "t", Region: "region-1", SizeGB: 1})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		v := store.Volume{
			ID: "v", ProjectID: "p", UserID: "u", Name: "data", Status: api.VolumeActive, CreatedAt: now, LastProcessedAt: now, Token: "t",
			Configuration: config.Volume{Type: "volume", Backend: fake.Type, Region: "region-1"},
			Provisioning:  &api.VolumeProvisioningData{VolumeID: made.ID},
		}
		r.write(func(tx *store.Tx) error { return tx.InsertVolume(&v) })
		time.Sleep(2 * time.Minute)
		b := config.Backend{Type: fake.Type}
		if err := r.Keeps(t.Context(), "p", b); err != nil {
			t.Errorf("with the same account: %v", err)
		}
		if err := mine.Open().DeleteVolume(t.Context(), made.VolumeRef); err != nil {
			t.Fatal(err)
		}
		const want = "With this configuration volume data (volume-000001) could not be deleted any more (it leads to another account): delete the volume first"
		var refused *backends.Invalid
		if err := r.Keeps(t.Context(), "p", b); !errors.As(err, &refused) || refused.Message != want {
			t.Errorf("with an account that does not know it: %v", err)
		}
	})
}

// looking fails where somebody does more than look at a machine.
type looking struct {
	backends.Backend
	t *testing.T
}

func (l looking) Describe(ctx context.Context, ref backends.Ref) (backends.Machine, error) {
	if ref.Data != "" {
		l.t.Errorf("a machine may get something: %+v", ref)
	}
	return l.Backend.Describe(ctx, ref)
}

// lookingDriver opens such accounts.
type lookingDriver struct {
	fake.Driver
	t *testing.T
}

func (d lookingDriver) Open(ctx context.Context, b config.Backend) (backends.Backend, error) {
	account, err := d.Driver.Open(ctx, b)
	return looking{account, d.t}, err
}

// TestKeeps refuses a configuration with which a machine would be lost.
func TestKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := fake.New(fake.Config{Now: time.Now})
		r := newRigOf(t, lookingDriver{fake.Driver{Cloud: mine}, t})
		defer r.close()
		b := config.Backend{Type: fake.Type}
		if err := r.Keeps(t.Context(), "p", b); err != nil {
			t.Errorf("without machines: %v", err)
		}
		m, err := mine.Open().Create(t.Context(), backends.MachineSpec{Token: "t", Region: "region-1", Type: "small"})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		i := store.Instance{ID: "i", ProjectID: "p", FleetID: "f", Name: "fleet-0", Status: api.InstanceIdle, CreatedAt: now, LastProcessedAt: now}
		i.Machine = &store.Machine{Backend: fake.Type, Token: "t", ID: m.ID, Data: `{"elastic_ip":true}`, Region: "region-1", AskedAt: now, CreatedAt: &now}
		f := store.Fleet{ID: "f", ProjectID: "p", Name: "fleet", Status: api.FleetActive, CreatedAt: now, LastProcessedAt: now}
		r.write(func(tx *store.Tx) error { return errors.Join(tx.InsertFleet(&f), tx.InsertInstance(&i)) })
		time.Sleep(2 * time.Minute)
		if err := r.Keeps(t.Context(), "p", b); err != nil {
			t.Errorf("with the same account: %v", err)
		}
		if err := mine.Open().Delete(t.Context(), m.Ref); err != nil {
			t.Fatal(err)
		}
		err = r.Keeps(t.Context(), "p", b)
		const want = "With this configuration machine machine-000001 of instance fleet-0 could not be ended any more (it leads to another account): delete the instance first"
		var refused *backends.Invalid
		if !errors.As(err, &refused) || refused.Message != want {
			t.Errorf("with an account that does not know it: %v", err)
		}
		mine.Inject(fake.Fault{Op: "describe", Err: backends.Error{Kind: backends.Config, Message: "no such region"}})
		if err := r.Keeps(t.Context(), "p", b); !errors.As(err, &refused) || !strings.Contains(refused.Message, "no such region") {
			t.Errorf("without its region: %v", err)
		}
	})
}
