package store

import "time"

// PublicKey is an SSH key that a user uploaded.
type PublicKey struct {
	ID          string
	UserID      string
	Name        string
	Type        string // as in authorized_keys
	Fingerprint string // SHA256:… without padding
	Key         string // type and base64, without a comment
	AddedAt     time.Time
}

var publicKeys = newTable("public_keys", func(r *PublicKey, _ *codec) []column {
	return []column{
		col("id", &r.ID),
		col("user_id", &r.UserID),
		col("name", &r.Name),
		col("type", &r.Type),
		col("fingerprint", &r.Fingerprint),
		col("key", &r.Key),
		col("added_at", instant{&r.AddedAt}),
	}
})

// InsertPublicKey adds a key; [ErrExists] if the user has it already.
func (tx *Tx) InsertPublicKey(k *PublicKey) error { return publicKeys.add(tx, k) }

// PublicKeys lists a user's keys, newest first.
func (tx *Tx) PublicKeys(userID string) ([]PublicKey, error) {
	return publicKeys.find(tx, " WHERE user_id = $1 ORDER BY added_at DESC, id", userID)
}

// DeletePublicKeys deletes those of a user's keys that have these ids and
// returns them.
func (tx *Tx) DeletePublicKeys(userID string, ids []string) ([]PublicKey, error) {
	var w where
	w.add("user_id = ?", userID)
	w.in("id", nonNil(ids))
	list, err := publicKeys.find(tx, w.String()+" ORDER BY added_at, id", w.args...)
	if err != nil {
		return nil, err
	}
	_, err = tx.exec("DELETE FROM public_keys"+w.String(), w.args...)
	return list, err
}
