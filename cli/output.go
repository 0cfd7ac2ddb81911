package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// printJSON writes one line of JSON.
func (a *App) printJSON(v any) error { return a.encodeJSON(v, "") }

// printIndented writes JSON over several lines.
func (a *App) printIndented(v any) error { return a.encodeJSON(v, "  ") }

func (a *App) encodeJSON(v any, indent string) error {
	enc := json.NewEncoder(a.Out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
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
