package api

import (
	"errors"
	"fmt"
	"net/http"
	"syscall"

	"dstack/controller/objects"
	"dstack/controller/store"
	"dstack/protocol/api"
)

const (
	msgAccessDenied    = "Access denied"
	msgResourceChanged = "Failed to apply plan. Resource has been changed. Try again or use force apply."
)

// Error is a failure that the caller may see. Err, if set, is only logged.
type Error struct {
	Status int
	// Code is one of the codes of rest-api.md 4; empty means null on the wire.
	Code string
	// Msg is a sentence for a person, with the way out.
	Msg string
	// Fields is the path of the field that is wrong, if one is.
	Fields []string
	// Bare leaves out the "detail" around the body.
	Bare bool
	Err  error
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", e.Msg, e.Err)
	}
	return e.Msg
}

func (e *Error) Unwrap() error { return e.Err }

// refuse is a business error with code "error".
func refuse(format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: api.CodeError, Msg: fmt.Sprintf(format, args...)}
}

// notExists is a business error for a missing resource.
func notExists(format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: api.CodeNotExists, Msg: fmt.Sprintf(format, args...)}
}

// forbidden is a refusal by role.
func forbidden(msg string) *Error {
	return &Error{Status: http.StatusForbidden, Msg: msg}
}

// notAllowed is a refusal by a rule beyond the levels of the routes, whose
// body has no "detail" around it (spec: rest-api.md 4).
func notAllowed(format string, args ...any) *Error {
	return &Error{Status: http.StatusForbidden, Msg: fmt.Sprintf(format, args...), Bare: true}
}

// exists is a business error for a name that is taken.
func exists() *Error {
	return &Error{Status: http.StatusBadRequest, Code: api.CodeExists, Msg: "Resource exists"}
}

// detail is one element of the body of a 400. It has no other keys: one more
// crashes the Python client.
type detail struct {
	Msg    string   `json:"msg"`
	Code   *string  `json:"code"`
	Fields []string `json:"fields,omitempty"`
}

// errorBody is {"detail": X}: a list for 400 and 422, an object for 403 and
// for an unknown project, a string for what the framework says in 0.22.5.
type errorBody struct {
	Detail any `json:"detail"`
}

// detailed is an error that knows the body of its answer.
type detailed interface {
	error
	detail() (status int, detail any)
}

// body renders the error as 0.22.5 does.
func (e *Error) body() any {
	var code *string
	if e.Code != "" {
		code = &e.Code
	}
	d := detail{Msg: e.Msg, Code: code, Fields: e.Fields}
	switch {
	case e.Bare:
		return d
	case e.Status == http.StatusBadRequest:
		return errorBody{Detail: []detail{d}}
	case e.Status == http.StatusUnauthorized:
		return errorBody{Detail: e.Msg}
	default:
		return errorBody{Detail: d}
	}
}

// asError finds the answer for err: its own, a sentence about the server's
// disk or its object storage, or a 500 without details.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if fault := diskFault(err); fault != "" {
		// With another status 0.22.5 clients would not show the sentence.
		return &Error{Status: http.StatusBadRequest, Code: api.CodeError, Msg: fault + " Nothing was changed.", Err: err}
	}
	if fault, ok := errors.AsType[*objects.Fault](err); ok {
		return &Error{Status: http.StatusServiceUnavailable, Code: api.CodeError, Msg: storageFault(fault), Err: err}
	}
	return &Error{Status: http.StatusInternalServerError, Msg: "Internal Server Error", Err: err}
}

// storageFault says what is wrong with the server's object storage. Where it
// is stays in the log.
func storageFault(f *objects.Fault) string {
	switch f.Kind {
	case objects.KindNoBucket, objects.KindCredentials, objects.KindForbidden:
		return "The server can't use its object storage: " + f.Problem + ". Ask whoever runs the server; its log says more."
	case objects.KindOther, objects.KindUnreachable:
	}
	return "The server can't reach its object storage. Try again in a moment."
}

// diskFault says what is wrong with the place of the server's data, if that
// is why err came.
func diskFault(err error) string {
	switch {
	case errors.Is(err, store.ErrDiskFull), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "The server's disk is full. Free some space on it and try again."
	case errors.Is(err, store.ErrReadOnly):
		return "The server's database is not writable. Make it writable and try again."
	case errors.Is(err, store.ErrDisk):
		return "The server's disk failed. Check it and try again."
	case errors.Is(err, store.ErrCorrupt):
		return "The server's database is damaged. Restore it from a backup."
	}
	return ""
}
