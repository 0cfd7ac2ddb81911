package store

import (
	"database/sql"
	"fmt"
	"time"
)

// Wake makes keys due now and counts their seq up, creating their work rows.
// After COMMIT the listener of [Store.OnWake] hears of them.
func (tx *Tx) Wake(now time.Time, keys ...Key) error {
	for _, k := range keys {
		_, err := tx.exec(`INSERT INTO work (kind, id, next_at, seq) VALUES ($1, $2, $3, 1)
			ON CONFLICT (kind, id) DO UPDATE SET next_at = excluded.next_at, seq = work.seq + 1`,
			k.Kind, k.ID, now.UnixMicro())
		if err != nil {
			return fmt.Errorf("wake %s: %w", k.Kind, err)
		}
	}
	tx.wakes = append(tx.wakes, keys...)
	return nil
}

// WorkSeq is the seq of a key, to be given to Settle; 0 if it has no work row.
func (tx *Tx) WorkSeq(k Key) (int64, error) {
	var seq int64
	err := tx.query(func(rows *sql.Rows) error { return rows.Scan(&seq) },
		"SELECT seq FROM work WHERE kind = $1 AND id = $2", k.Kind, k.ID)
	if err != nil {
		return 0, fmt.Errorf("read work of %s: %w", k.Kind, err)
	}
	return seq, nil
}

// Settle says when to look at the key again, nil for not before it is woken.
// It does nothing when the key was woken after seenSeq was read.
func (tx *Tx) Settle(k Key, seenSeq int64, next *time.Time) error {
	_, err := tx.exec("UPDATE work SET next_at = $1 WHERE kind = $2 AND id = $3 AND seq = $4",
		maybeInstant{&next}, k.Kind, k.ID, seenSeq)
	if err != nil {
		return fmt.Errorf("settle %s: %w", k.Kind, err)
	}
	return nil
}

// DropWork forgets the key: its resource is final.
func (tx *Tx) DropWork(k Key) error {
	if _, err := tx.exec("DELETE FROM work WHERE kind = $1 AND id = $2", k.Kind, k.ID); err != nil {
		return fmt.Errorf("drop work of %s: %w", k.Kind, err)
	}
	return nil
}

// DueWork lists the keys that are due, the longest due first; atMost 0 means
// all.
func (tx *Tx) DueWork(now time.Time, atMost int) ([]Key, error) {
	return tx.keys("SELECT kind, id FROM work WHERE next_at <= $1 ORDER BY next_at, kind, id"+limit(atMost), now.UnixMicro())
}

// AllWork lists every key that has work: all live resources.
func (tx *Tx) AllWork() ([]Key, error) { return tx.keys("SELECT kind, id FROM work ORDER BY kind, id") }

func (tx *Tx) keys(query string, args ...any) ([]Key, error) {
	out := []Key{}
	err := tx.query(func(rows *sql.Rows) error {
		var k Key
		if err := rows.Scan(&k.Kind, &k.ID); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		out = append(out, k)
		return nil
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list work: %w", err)
	}
	return out, nil
}

// Claim takes the lease of a key for owner until a time; false means that
// somebody else has it. On SQLite one process owns the file, so it is always
// true.
func (*Tx) Claim(Key, string, time.Time) (bool, error) { return true, nil }

// Release gives a lease back.
func (*Tx) Release(Key, string) error { return nil }
