package store

import (
	"database/sql"
	"fmt"
	"time"
)

// FileArchive is a tar file that a user uploaded for `files`; Hash is its
// SHA-256 in hex, Size its bytes.
type FileArchive struct {
	ID        string
	UserID    string
	Hash      string
	Size      int64
	CreatedAt time.Time
}

// RepoCode is the difference of a working copy to its repo, or a tar file,
// that somebody uploaded for a repo.
type RepoCode struct {
	ID        string
	RepoPK    string
	Hash      string
	Size      int64
	CreatedAt time.Time
}

var fileArchives = newTable("file_archives", func(r *FileArchive, _ *codec) []column {
	return []column{
		col("id", &r.ID),
		fixed("user_id", &r.UserID),
		fixed("hash", &r.Hash),
		col("size", &r.Size),
		fixed("created_at", instant{&r.CreatedAt}),
	}
})

var repoCodes = newTable("repo_codes", func(r *RepoCode, _ *codec) []column {
	return []column{
		col("id", &r.ID),
		fixed("repo_pk", &r.RepoPK),
		fixed("hash", &r.Hash),
		col("size", &r.Size),
		fixed("created_at", instant{&r.CreatedAt}),
	}
})

// PutFileArchive adds an archive, or finds the one that the user has with the
// same hash, which a is then.
func (tx *Tx) PutFileArchive(a *FileArchive) error {
	old, err := tx.FileArchiveByHash(a.UserID, a.Hash)
	if isNotFound(err) {
		return fileArchives.add(tx, a)
	}
	if err == nil {
		*a = old
	}
	return err
}

// FileArchiveByHash finds a user's archive.
func (tx *Tx) FileArchiveByHash(userID, hash string) (FileArchive, error) {
	return fileArchives.one(tx, " WHERE user_id = $1 AND hash = $2", userID, hash)
}

// FileArchives finds those of a user's archives that have one of the ids.
func (tx *Tx) FileArchives(userID string, ids []string) ([]FileArchive, error) {
	var w where
	w.add("user_id = ?", userID)
	w.in("id", nonNil(ids))
	return fileArchives.find(tx, w.String(), w.args...)
}

// PutRepoCode adds code to a repo unless it is there.
func (tx *Tx) PutRepoCode(c *RepoCode) error {
	_, err := tx.RepoCode(c.RepoPK, c.Hash)
	if isNotFound(err) {
		return repoCodes.add(tx, c)
	}
	return err
}

// RepoCode finds code of a repo by its hash.
func (tx *Tx) RepoCode(repoPK, hash string) (RepoCode, error) {
	return repoCodes.one(tx, " WHERE repo_pk = $1 AND hash = $2", repoPK, hash)
}

// UsedBlobs are those of the hashes that some row names.
func (tx *Tx) UsedBlobs(hashes []string) ([]string, error) {
	var w where
	w.in("hash", nonNil(hashes))
	var used []string
	for _, table := range []string{"file_archives", "repo_codes"} {
		err := tx.query(func(rows *sql.Rows) error {
			var hash string
			if err := rows.Scan(&hash); err != nil {
				return fmt.Errorf("read row: %w", err)
			}
			used = append(used, hash)
			return nil
		}, "SELECT DISTINCT hash FROM "+table+w.String(), w.args...)
		if err != nil {
			return nil, fmt.Errorf("find used blobs in %s: %w", table, err)
		}
	}
	return used, nil
}
