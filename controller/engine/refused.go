package engine

import "fmt"

// Refused is a wish that cannot be fulfilled as things stand. Its text is
// for the user (HTTP 400, code "error").
type Refused struct{ Message string } //nolint:errname // callers read *engine.Refused as a sentence

func (r *Refused) Error() string { return r.Message }

func refuse(format string, args ...any) error {
	return &Refused{Message: fmt.Sprintf(format, args...)}
}
