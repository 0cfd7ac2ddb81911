package backends

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind says what an error of a cloud means for whoever called. It is an error
// itself, so that errors.Is(err, NoCapacity) asks for it.
type Kind string

// Kinds of errors, and how the engine reacts.
const (
	// NoCapacity: the next offer; this one is left aside for a while.
	NoCapacity Kind = "no capacity"
	// Quota: the next offer that does not count against the same limit.
	Quota Kind = "quota"
	// Auth: the cloud does not know us. Nothing is asked of the backend until
	// its configuration changes, or for some minutes.
	Auth Kind = "credentials"
	// Permission: the cloud knows us and does not let us; Error.Permission names
	// what is missing. As Auth; where a spot machine was refused, for those.
	Permission Kind = "permission"
	// Config: what the configuration names does not exist or does not fit;
	// Error.Field names it. As Auth, in its region.
	Config Kind = "configuration"
	// BadRequest: the cloud does not accept this request, and never will.
	BadRequest Kind = "invalid request"
	// NotFound: there is no such thing.
	NotFound Kind = "not found"
	// NotReady: the same call will work when something else has happened.
	NotReady Kind = "not ready"
	// Throttled: the same call, but later.
	Throttled Kind = "too many requests"
	// Transient: the same call again. Nobody knows whether it acted.
	Transient Kind = "no answer"
	// Unsupported: the cloud cannot do this for such a machine.
	Unsupported Kind = "not supported"
)

func (k Kind) Error() string { return string(k) }

// Error is what went wrong in a call to a cloud.
type Error struct {
	Kind    Kind
	Backend string
	// Op is the call of ours, Region where it went; either may be empty.
	Op, Region string
	// Code is the cloud's own.
	Code string
	// Message is the cloud's or ours: what is wrong, without a full stop.
	Message string
	// Remedy says what the user can do, if that is known.
	Remedy string
	// Field is the path of the field of the configuration that is wrong.
	Field []string
	// Permission is the one that is missing, in the cloud's own words.
	Permission string
	// Family is what a limit counts, for Quota.
	Family string
	// Zones are those that were not asked, for NoCapacity: the token of the wish
	// is used up, though nothing came of it. They take a wish with another one.
	Zones []string
	// After is how long the cloud asks to wait, if it says so.
	After time.Duration
	Err   error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Backend)
	if e.Region != "" {
		b.WriteString(" " + e.Region)
	}
	b.WriteString(": " + e.Message)
	switch {
	case e.Permission != "":
		b.WriteString(" (the permission " + e.Permission + " is missing)")
	case len(e.Field) > 0:
		b.WriteString(" (" + strings.Join(e.Field, ".") + ")")
	}
	if e.Remedy != "" {
		b.WriteString(". " + e.Remedy)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Is says whether target is the error's kind.
func (e *Error) Is(target error) bool {
	kind, ok := target.(Kind)
	return ok && kind == e.Kind
}

// KindOf is the kind of an error: Transient if a driver left it open, since
// then the call may have acted.
func KindOf(err error) Kind {
	var known *Error
	if errors.As(err, &known) {
		return known.Kind
	}
	return Transient
}

// Stops says whether a backend is of no use until somebody changes something:
// its configuration, its credentials, or what they may do.
func Stops(err error) bool {
	switch KindOf(err) {
	case Auth, Permission, Config:
		return true
	}
	return false
}

// lateness is the error of a call that its time limit ended.
func lateness(ctx context.Context, c Call, err error) error {
	if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
		return &Error{Kind: Transient, Backend: c.Backend, Op: c.Op, Region: c.Region, Message: cause.Error(), Err: err}
	}
	return err
}

// tooLate is the cause of a context whose time is over.
func tooLate(c Call, limit time.Duration) error {
	return fmt.Errorf("%s: no answer in %s", c.Op, limit)
}
