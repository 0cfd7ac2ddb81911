package store

var users = newTable("users", func(r *User, c *codec) []column {
	return []column{
		col("id", &r.ID),
		col("name", &r.Name),
		col("global_role", &r.GlobalRole),
		col("email", &r.Email),
		col("active", &r.Active),
		col("token", sealedText{&r.Token, c}),
		col("token_hash", tokenHash{&r.Token}),
		col("public_key", &r.PublicKey),
		col("private_key", sealedText{&r.PrivateKey, c}),
		col("created_at", instant{&r.CreatedAt}),
		col("deleted", &r.Deleted),
	}
})

// InsertUser adds a user; [ErrExists] if the name (in any case) or the token
// is taken.
func (tx *Tx) InsertUser(u *User) error { return users.add(tx, u) }

// User finds a user by id, also a deleted one.
func (tx *Tx) User(id string) (User, error) { return users.one(tx, " WHERE id = $1", id) }

// UserByName finds a user that is not deleted, whatever the case of name.
func (tx *Tx) UserByName(name string) (User, error) {
	return users.one(tx, " WHERE lower(name) = lower($1) AND NOT deleted", name)
}

// UserByTokenHash finds the user, not deleted, whose token has this
// [TokenHash]. The caller still looks at Active.
func (tx *Tx) UserByTokenHash(hash string) (User, error) {
	return users.one(tx, " WHERE token_hash = $1 AND NOT deleted", hash)
}

// UsersByID finds users by id, also deleted ones.
func (tx *Tx) UsersByID(ids []string) (map[string]User, error) {
	var w where
	w.in("id", nonNil(ids))
	list, err := users.find(tx, w.String(), w.args...)
	return byID(list, func(u User) string { return u.ID }), err
}

func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func byID[R any](list []R, id func(R) string) map[string]R {
	out := make(map[string]R, len(list))
	for _, r := range list {
		out[id(r)] = r
	}
	return out
}
