package engine

import (
	"fmt"

	"dstack/protocol/api"
)

// Refused is a wish that cannot be fulfilled as things stand. Its text is
// for the user (HTTP 400). Code is one of protocol/api; empty means "error".
type Refused struct{ Message, Code string } //nolint:errname // callers read *engine.Refused as a sentence

func (r *Refused) Error() string { return r.Message }

func refuse(format string, args ...any) error {
	return &Refused{Message: fmt.Sprintf(format, args...)}
}

// exists refuses a name that is taken.
func exists() error { return &Refused{Message: "Resource exists", Code: api.CodeExists} }
