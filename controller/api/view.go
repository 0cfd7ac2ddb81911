package api

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
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

// pythonBool writes a boolean as 0.22.5 does in its texts.
func pythonBool(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// pythonList writes names as 0.22.5 does in its texts: ['a', 'b'].
func pythonList(names []string) string {
	return "['" + strings.Join(names, "', '") + "']"
}

// deletedName is what a deleted user or project is called, so that its name
// is free for another one.
func deletedName(now time.Time) string {
	var suffix [8]byte
	_, _ = rand.Read(suffix[:]) // never fails
	return fmt.Sprintf("_deleted_%d_%s", now.Unix(), hex.EncodeToString(suffix[:]))
}
