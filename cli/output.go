package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
)

// output is standard output. It remembers what could not be written: a full
// disk must not pass for success.
type output struct {
	io.Writer

	failed atomic.Pointer[error]
}

// Write writes text and keeps the first error.
func (o *output) Write(text []byte) (int, error) {
	n, err := o.Writer.Write(text)
	if err != nil {
		o.failed.CompareAndSwap(nil, &err)
	}
	return n, err //nolint:wrapcheck // a writer's own error
}

// fault is why output was lost, nil if it was not.
func (o *output) fault() error {
	err := o.failed.Load()
	if err == nil {
		return nil
	}
	if path, ok := errors.AsType[*fs.PathError](*err); ok {
		return path.Err
	}
	return *err
}

// printJSON writes one line of JSON.
func (a *App) printJSON(v any) error { return a.encodeJSON(v, "") }

// printIndented writes JSON over several lines.
func (a *App) printIndented(v any) error { return a.encodeJSON(v, "  ") }

func (a *App) encodeJSON(v any, indent string) error {
	enc := json.NewEncoder(a.Out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON to standard output: %w", err)
	}
	return nil
}

// nonNil makes JSON write [] for no elements.
func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// choice is a flag with a closed set of values.
type choice struct {
	value   *string
	allowed []string
}

func newChoice(value *string, initial string, allowed ...string) *choice {
	*value = initial
	return &choice{value, allowed}
}

// String gives the present value.
func (c *choice) String() string { return *c.value }

// Type names the kind of value in an error.
func (c *choice) Type() string { return "choice" }

// Set takes one of the allowed values.
func (c *choice) Set(v string) error {
	if !slices.Contains(c.allowed, v) {
		return fmt.Errorf("choose from %s", strings.Join(c.allowed, ", "))
	}
	*c.value = v
	return nil
}

// choices is a flag that can be given several times, with a closed set of
// values.
type choices struct {
	values  *[]string
	kind    string
	allowed []string
}

func newChoices(values *[]string, kind string, allowed ...string) *choices {
	return &choices{values, kind, allowed}
}

// String gives the present values.
func (c *choices) String() string { return strings.Join(*c.values, ",") }

// Type names the kind of value in an error.
func (c *choices) Type() string { return c.kind }

// Set adds one of the allowed values.
func (c *choices) Set(v string) error {
	if !slices.Contains(c.allowed, v) {
		return fmt.Errorf("choose from %s", strings.Join(c.allowed, ", "))
	}
	*c.values = append(*c.values, v)
	return nil
}
