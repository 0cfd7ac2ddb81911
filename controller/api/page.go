package api

import (
	"errors"
	"strings"

	"github.com/google/uuid"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// pageOf makes a cursor; false means that the page is empty by request.
func pageOf(prev *api.Time, prevID *string, limit *int, otherwise int, ascending bool) (store.Page, bool) {
	p := store.Page{Ascending: ascending, Limit: deref(limit, otherwise)}
	if prev != nil {
		t := prev.UTC()
		p.PrevTime = &t
		p.PrevID = deref(prevID, "")
	}
	return p, p.Limit > 0
}

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func isNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }

// normalUUID writes an id as we store it: lower case, with dashes. What is no
// UUID is returned as it is, and matches nothing.
func normalUUID(s string) string {
	u, err := uuid.Parse(strings.TrimSpace(s))
	if err != nil {
		return s
	}
	return u.String()
}

func isConflict(err error) bool { return errors.Is(err, store.ErrConflict) }

func isTaken(err error) bool { return errors.Is(err, store.ErrExists) }
