package controller

import (
	"testing"
	"time"

	"dstack/controller/logs"
	"dstack/controller/store"
)

// A host says of which job its bytes are; it must not write into the log of a
// job that runs elsewhere.
func TestOnlyTheHostOfAJobWritesItsLog(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	st, err := store.Open(ctx, store.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	kept := logs.New(logs.Options{Dir: t.TempDir()})
	t.Cleanup(func() {
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	own := "i1"
	err = st.Write(ctx, func(tx *store.Tx) error {
		for _, insert := range []func() error{
			func() error { return tx.InsertUser(&store.User{ID: "u", Name: "admin"}) },
			func() error { return tx.InsertProject(&store.Project{ID: "p", Name: "main", OwnerID: "u"}) },
			func() error { return tx.InsertFleet(&store.Fleet{ID: "f", ProjectID: "p", Name: "lab"}) },
			func() error { return tx.InsertInstance(&store.Instance{ID: own, ProjectID: "p", FleetID: "f"}) },
			func() error { return tx.InsertRun(&store.Run{ID: "r", ProjectID: "p", UserID: "u", Name: "train"}) },
			func() error {
				return tx.InsertJob(&store.Job{ID: "j", RunID: "r", ProjectID: "p", RunName: "train", UsedInstanceID: &own})
			},
		} {
			if err := insert(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sink := &logSink{store: st, logs: kept, now: time.Now, places: map[string]place{}}
	for _, c := range []struct {
		instance, job, data string
		offset, size, kept  int64
	}{
		{"i2", "j", "forged", 0, 6, 0},
		{own, "j", "real", 0, 4, 4},
		{"i2", "j", "forged", 4, 10, 4},
		{own, "unknown", "x", 0, 1, 4},
	} {
		size, err := sink.Append(ctx, c.instance, c.job, c.offset, time.Now(), []byte(c.data))
		if err != nil || size != c.size {
			t.Errorf("Append of %q by %s = %d, %v; want %d", c.data, c.instance, size, err, c.size)
		}
		if got, err := sink.Size(ctx, own, "j"); err != nil || got != c.kept {
			t.Errorf("after %q by %s the log has %d bytes, %v; want %d", c.data, c.instance, got, err, c.kept)
		}
	}
	for instance, text := range map[string]string{"i2": "forged", own: "agent"} {
		for range 2 {
			if err := sink.diagnose(ctx, instance, "j", text); err != nil {
				t.Error(err)
			}
		}
	}
	key := logs.Key{Project: "main", Run: "train", JobID: "j"}
	page, err := kept.Poll(ctx, key.Diagnostics(), logs.PollOptions{Limit: 9})
	if err != nil || len(page.Events) > 1 || len(page.Events) == 1 && string(page.Events[0].Data) != "agent" {
		t.Errorf("agent's log: %+v, %v", page, err)
	}
	if size, err := kept.Size(key.Diagnostics()); err != nil || size != int64(len("agent")) {
		t.Errorf("agent's log has %d bytes, %v", size, err)
	}
	if got, err := sink.Size(ctx, "i2", "j"); err != nil || got != 0 {
		t.Errorf("Size for a host without the job = %d, %v", got, err)
	}
}
