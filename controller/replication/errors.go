package replication

import (
	"errors"
	"fmt"
	"time"

	"dstack/controller/objects"
)

// HeldError means that another server holds the lease.
type HeldError struct {
	Target objects.Target
	Owner  string
	Until  time.Time
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("%s: server %s holds the lease until %s: only one server may run; stop that one, or start this one with --wait-for-lease",
		e.Target, e.Owner, e.Until.UTC().Format("2006-01-02 15:04:05 UTC"))
}

// LostError means that another server took the lease over, while this one
// could not renew it.
type LostError struct {
	Target objects.Target
	Owner  string // empty: unknown
}

func (e *LostError) Error() string {
	by := ""
	if e.Owner != "" {
		by = " to " + e.Owner
	}
	return fmt.Sprintf("%s: the lease was lost%s: this server stops and writes nothing more; what the replica does not have of it stays in its local database", e.Target, by)
}

// explain makes a sentence of an error of a storage.
func explain(t objects.Target, err error) error {
	if _, held := errors.AsType[*HeldError](err); held || errors.Is(err, errNoLease) {
		return err
	}
	return t.Explain(err)
}
