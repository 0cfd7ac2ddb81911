package store

import (
	"errors"
	"testing"
	"time"
)

func testStrays(t *testing.T, s *Store) {
	t.Helper()
	first := Stray{
		ID: "s1", ProjectID: "p1", Backend: "aws", MachineID: "i-2", Hold: "too many", FoundAt: at(1),
		Found: StrayMachine{Region: "r", Zone: "ra", Token: "t", Data: "d", Server: "me", Name: "n", Type: "c5", Spot: true, CreatedAt: at(0), Price: 1.5},
	}
	second := first
	second.ID, second.MachineID, second.FoundAt = "s2", "i-1", at(2)
	write(t, s, func(tx *Tx) error { return errors.Join(seed(tx), tx.InsertStray(&second), tx.InsertStray(&first)) })
	first.Hold, first.ConfirmedAt, first.Trouble = "", ptr(at(3)), "not permitted"
	write(t, s, func(tx *Tx) error { return tx.UpdateStray(&first) })
	read(t, s, func(tx *Tx) error { return same(t, "strays", []Stray{first, second})(tx.Strays()) })
	again := second
	again.ID = "s3"
	if err := s.Write(t.Context(), func(tx *Tx) error { return tx.InsertStray(&again) }); !errors.Is(err, ErrExists) {
		t.Errorf("a machine twice: %v", err)
	}
	write(t, s, func(tx *Tx) error { return tx.DeleteStray("s2") })
	read(t, s, func(tx *Tx) error { return same(t, "the rest", []Stray{first})(tx.Strays()) })
}

func testSettings(t *testing.T, s *Store) {
	t.Helper()
	read(t, s, func(tx *Tx) error {
		return errors.Join(same(t, "none", "")(tx.Setting("a")), same(t, "no instance", time.Time{})(tx.LastInstanceChange()))
	})
	write(t, s, func(tx *Tx) error { return errors.Join(tx.PutSetting("a", "1"), tx.PutSetting("a", "2")) })
	read(t, s, func(tx *Tx) error { return same(t, "the last", "2")(tx.Setting("a")) })
	write(t, s, func(tx *Tx) error {
		_, err := tx.ServerID("one")
		return err
	})
	write(t, s, func(tx *Tx) error { return same(t, "server id", "one")(tx.ServerID("two")) })
}
