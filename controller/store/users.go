package store

import "fmt"

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
		fixed("created_at", instant{&r.CreatedAt}),
		col("deleted", &r.Deleted),
		col("original_name", &r.OriginalName),
	}
})

// InsertUser adds a user; [ErrExists] if the name (in any case) or the token
// is taken.
func (tx *Tx) InsertUser(u *User) error { return users.add(tx, u) }

// UpdateUser writes a user, all but the time of creation; [ErrExists] if the
// name or the token is taken.
func (tx *Tx) UpdateUser(u *User) error { return users.change(tx, u, ErrNotFound) }

// User finds a user by id, also a deleted one.
func (tx *Tx) User(id string) (User, error) { return users.one(tx, " WHERE id = $1", id) }

// UserByName finds a user that is not deleted, whatever the case of name.
func (tx *Tx) UserByName(name string) (User, error) {
	return users.one(tx, " WHERE lower(name) = lower($1) AND NOT deleted", name)
}

// UserByExactName finds a user that is not deleted, in this case only.
func (tx *Tx) UserByExactName(name string) (User, error) {
	// The first condition is what the index is on.
	return users.one(tx, " WHERE lower(name) = lower($1) AND name = $1 AND NOT deleted", name)
}

// UserByNameOrEmail finds a user that is not deleted, by its exact name, else
// the oldest with this e-mail address.
func (tx *Tx) UserByNameOrEmail(text string) (User, error) {
	u, err := tx.UserByExactName(text)
	if !isNotFound(err) {
		return u, err
	}
	return users.one(tx, " WHERE email = $1 AND NOT deleted ORDER BY created_at, id", text)
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

// UserFilter says which users to list; those that are deleted never are.
type UserFilter struct {
	ID          string // one user; empty means all
	NamePattern string // part of the name, in any case
	Page        Page
}

func (f UserFilter) where() where {
	var w where
	w.add("NOT deleted")
	if f.ID != "" {
		w.add("id = ?", f.ID)
	}
	if f.NamePattern != "" {
		w.add(`lower(name) LIKE ? ESCAPE '\'`, likePattern(f.NamePattern))
	}
	return w
}

// Users lists users, newest first unless the page says otherwise.
func (tx *Tx) Users(f UserFilter) ([]User, error) {
	w := f.where()
	tail := w.page(f.Page, "created_at")
	return users.find(tx, w.String()+tail, w.args...)
}

// CountUsers counts what Users lists, whatever the page.
func (tx *Tx) CountUsers(f UserFilter) (int, error) {
	w := f.where()
	return users.count(tx, w.String(), w.args...)
}

// LeaveProjects takes a user out of all projects.
func (tx *Tx) LeaveProjects(userID string) error {
	if _, err := tx.exec("DELETE FROM members WHERE user_id = $1", userID); err != nil {
		return fmt.Errorf("delete members: %w", err)
	}
	return nil
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
