package store

import (
	"errors"
	"testing"
)

func testSecrets(t *testing.T, s *Store) {
	t.Helper()
	old := Secret{ID: "s1", ProjectID: "p1", Name: "TOKEN", Value: "v1", CreatedAt: at(1), UpdatedAt: at(1)}
	newer := Secret{ID: "s2", ProjectID: "p1", Name: "token", Value: "", CreatedAt: at(2), UpdatedAt: at(2)}
	write(t, s, func(tx *Tx) error { return errors.Join(seed(tx), tx.InsertSecret(&old), tx.InsertSecret(&newer)) })
	old.Value, old.UpdatedAt = "v2", at(3)
	write(t, s, func(tx *Tx) error { return tx.UpdateSecret(&old) })
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "secrets", []Secret{newer, old})(tx.Secrets("p1")),
			same(t, "other project", []Secret{})(tx.Secrets("p2")),
			same(t, "by name", old)(tx.SecretByName("p1", "TOKEN")),
			same(t, "by names", []Secret{old})(tx.SecretsByName("p1", []string{"TOKEN", "none"})),
			same(t, "by no names", []Secret{})(tx.SecretsByName("p1", nil)),
		)
	})
	again := Secret{ID: "s3", ProjectID: "p1", Name: "TOKEN", CreatedAt: at(1), UpdatedAt: at(1)}
	if err := s.Write(t.Context(), func(tx *Tx) error { return tx.InsertSecret(&again) }); !errors.Is(err, ErrExists) {
		t.Errorf("two secrets of a name: %v", err)
	}
	write(t, s, func(tx *Tx) error { return tx.DeleteSecret("s1") })
	if err := s.Read(t.Context(), func(tx *Tx) error { _, err := tx.SecretByName("p1", "TOKEN"); return err }); !errors.Is(err, ErrNotFound) {
		t.Errorf("a deleted secret: %v", err)
	}
}
