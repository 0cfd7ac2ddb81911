package fake_test

import (
	"sync"
	"testing"
	"time"

	"dstack/controller/backends"
	"dstack/controller/backends/contracttest"
	"dstack/controller/backends/fake"
)

// clock is a clock that only a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func harness(guarded, hidden bool) func(*testing.T) contracttest.Harness {
	return func(*testing.T) contracttest.Harness {
		c := &clock{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
		cfg := fake.Config{Now: c.now, Boot: time.Minute, Stop: time.Minute, Shown: time.Minute, Regions: []string{"region-1", "region-2"}}
		if hidden {
			cfg.Hidden = 10 * time.Second
		}
		cloud := fake.New(cfg)
		h := contracttest.Harness{
			Backend: cloud.Open(),
			Spec:    backends.MachineSpec{Region: "region-1", Type: "large", DiskGB: 100},
			Inject: func(f contracttest.Fault) bool {
				cloud.Inject(fake.Fault{Op: f.Op, Times: 1, Lost: f.Lost, Err: backends.Error{Kind: f.Kind, Message: string(f.Kind)}})
				return true
			},
			Settle:   func() { c.pass(5 * time.Minute) },
			UserData: func(_ *testing.T, id string) string { return cloud.UserData(id) },
		}
		if hidden {
			h.Delay = func() {}
		}
		if guarded {
			h.Backend = backends.Guard("dstack", h.Backend, backends.TimeLimit(func(backends.Call) time.Duration { return time.Minute }))
		}
		return h
	}
}

func TestContract(t *testing.T) {
	t.Run("plain", func(t *testing.T) { contracttest.Run(t, harness(false, false)) })
	t.Run("guarded", func(t *testing.T) { contracttest.Run(t, harness(true, false)) })
	t.Run("shown late", func(t *testing.T) { contracttest.Run(t, harness(false, true)) })
}

func TestReclaim(t *testing.T) {
	c := &clock{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	ended := 0
	cloud := fake.New(fake.Config{Now: c.now, Shown: time.Hour, Ended: func(backends.Machine) { ended++ }})
	account := cloud.Open()
	m, err := account.Create(t.Context(), backends.MachineSpec{Token: "t", Region: "region-1", Type: "gpu", Spot: true})
	if err != nil {
		t.Fatal(err)
	}
	if alive := cloud.Alive(); len(alive) != 1 || alive[0].ID != m.ID {
		t.Errorf("alive: %+v", alive)
	}
	cloud.Reclaim(m.ID)
	cloud.Reclaim(m.ID)
	got, err := account.Describe(t.Context(), m.Ref)
	if err != nil || got.State != backends.MachineGone || !got.Interrupted {
		t.Errorf("reclaimed: %+v, %v", got, err)
	}
	if len(cloud.Alive()) > 0 || ended != 1 {
		t.Errorf("alive: %+v, ended %d times", cloud.Alive(), ended)
	}
}

func TestPace(t *testing.T) {
	c := &clock{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	cloud := fake.New(fake.Config{Now: c.now, Boot: time.Hour, Pace: func(spec backends.MachineSpec) fake.Pace {
		if spec.Type == "small" {
			return fake.Pace{Boot: time.Minute, Stop: time.Minute, Shown: time.Hour}
		}
		return fake.Pace{Boot: 3 * time.Minute}
	}})
	account := cloud.Open()
	for _, name := range []string{"small", "gpu"} {
		if _, err := account.Create(t.Context(), backends.MachineSpec{Token: name, Region: "region-1", Type: name}); err != nil {
			t.Fatal(err)
		}
	}
	c.pass(2 * time.Minute)
	for token, want := range map[string]backends.MachineState{"small": backends.MachineRunning, "gpu": backends.MachinePending} {
		if m, err := account.Describe(t.Context(), backends.Ref{Token: token}); err != nil || m.State != want {
			t.Errorf("%s is %s, want %s (%v)", token, m.State, want, err)
		}
	}
	cloud.Kill(cloud.Alive()[0].ID)
	if alive, left := cloud.Alive(), cloud.Left(); len(alive) != 1 || len(left) != 2 || left[0].State != backends.MachineStopping {
		t.Errorf("alive: %+v, left: %+v", alive, left)
	}
	c.pass(time.Minute)
	if left := cloud.Left(); len(left) != 1 {
		t.Errorf("left in the end: %+v", left)
	}
	if m, err := account.Describe(t.Context(), backends.Ref{Token: "small"}); err != nil || m.State != backends.MachineGone || m.Interrupted {
		t.Errorf("killed: %+v, %v", m, err)
	}
}

func TestCapacity(t *testing.T) {
	cloud := fake.New(fake.Config{Now: time.Now, Capacity: 1})
	account := cloud.Open()
	for n, want := range []backends.Kind{"", backends.NoCapacity} {
		_, err := account.Create(t.Context(), backends.MachineSpec{Token: string(rune('a' + n)), Region: "region-1", Type: "gpu"})
		if (err == nil) != (want == "") || err != nil && backends.KindOf(err) != want {
			t.Errorf("machine %d: %v", n, err)
		}
	}
}
