package api

import (
	"errors"
	"fmt"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// importedFleets are the fleets that a list shows beside those of the
// projects; projects nil means that it shows all fleets anyway.
func importedFleets(tx *store.Tx, wanted bool, projects []string) ([]string, error) {
	if !wanted || projects == nil {
		return nil, nil
	}
	ids, err := tx.ImportedFleets(projects)
	if err != nil {
		return nil, fmt.Errorf("list imported fleets: %w", err)
	}
	return ids, nil
}

// ownOrLent decides about something of the project in the path: members and
// global admins get it, or hear that it does not exist (found is what the
// search for it said). Others get it only if it is lent to a project of
// theirs, and are refused in the same way if not and if it does not exist.
func (a *API) ownOrLent(c call, found error, lent func() (bool, error)) error {
	if c.Role != "" || a.deps.Policy.IsAdmin(&c.User) {
		return found
	}
	if e, ok := errors.AsType[*Error](found); ok && e.Code == api.CodeNotExists {
		return forbidden(msgAccessDenied)
	}
	if found != nil {
		return found
	}
	ok, err := lent()
	if err != nil {
		return fmt.Errorf("look for imports: %w", err)
	}
	if !ok {
		return forbidden(msgAccessDenied)
	}
	return nil
}
