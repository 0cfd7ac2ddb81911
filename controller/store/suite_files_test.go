package store

import (
	"errors"
	"testing"
)

func testFiles(t *testing.T, s *Store) {
	t.Helper()
	repo := Repo{ID: "x1", ProjectID: "p1", RepoID: "repo-1", Info: []byte(`{"repo_type":"virtual"}`)}
	archive := FileArchive{ID: "a1", UserID: "u1", Hash: "h1", Size: 5, CreatedAt: at(1)}
	code := RepoCode{ID: "c1", RepoPK: "x1", Hash: "h2", Size: 6, CreatedAt: at(2)}
	write(t, s, func(tx *Tx) error {
		return errors.Join(seed(tx), tx.PutRepo(&repo), tx.PutFileArchive(&archive), tx.PutRepoCode(&code))
	})
	again, code2 := FileArchive{ID: "a2", UserID: "u1", Hash: "h1", CreatedAt: at(3)}, code
	code2.ID = "c2"
	write(t, s, func(tx *Tx) error { return errors.Join(tx.PutFileArchive(&again), tx.PutRepoCode(&code2)) })
	if again != archive {
		t.Errorf("the same archive again is %+v", again)
	}
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "archive", archive)(tx.FileArchiveByHash("u1", "h1")),
			same(t, "archives", []FileArchive{archive})(tx.FileArchives("u1", []string{"a1", "none"})),
			same(t, "archives of another user", []FileArchive{})(tx.FileArchives("u2", []string{"a1"})),
			same(t, "code", code)(tx.RepoCode("x1", "h2")),
			same(t, "used", []string{"h1", "h2"})(tx.UsedBlobs([]string{"h1", "h2", "h3"})),
		)
	})
	write(t, s, func(tx *Tx) error { return tx.DeleteRepos("p1", []string{"repo-1"}) })
	read(t, s, func(tx *Tx) error { return same(t, "used", []string{"h1"})(tx.UsedBlobs([]string{"h1", "h2"})) })
}
