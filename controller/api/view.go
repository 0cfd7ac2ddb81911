package api

import (
	"maps"
	"slices"
	"time"

	"dstack/protocol/api"
)

// none returns nil for the empty string.
func none(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// text turns an optional word of a closed set into an optional string.
func text[S ~string](s *S) *string {
	if s == nil {
		return nil
	}
	return new(string(*s))
}

func timeRef(t *time.Time) *api.Time {
	if t == nil {
		return nil
	}
	return new(api.At(*t))
}

// distinct keeps the first of each.
func distinct(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
