package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDrop(t *testing.T) {
	a := &allowance{Call: "*/events/list", Path: new(string), Drop: map[string][]string{"message": {"Member *"}}}
	list := call{Call: "POST /api/events/list", As: names{"admin"}}
	of := func(limit int) call {
		c := list
		c.Body = map[string]any{"limit": limit}
		return c
	}
	const run, user, more = `{"message":"Run"}`, `{"message":"User"}`, `{"message":"Member bob added"}`
	for name, tt := range map[string]struct {
		call               call
		real, ours         string
		wantReal, wantOurs string
		needed             bool
	}{
		"left out":          {list, `[` + run + `]`, `[` + more + `,` + run + `]`, `[` + run + `]`, `[` + run + `]`, true},
		"full page":         {of(2), `[` + run + `,` + user + `]`, `[` + more + `,` + run + `]`, `[` + run + `]`, `[` + run + `]`, true},
		"page with room":    {of(3), `[` + run + `,` + user + `]`, `[` + more + `,` + run + `]`, `[` + run + `,` + user + `]`, `[` + run + `]`, true},
		"nothing to drop":   {list, `[` + run + `]`, `[` + user + `]`, `[` + run + `]`, `[` + user + `]`, false},
		"another call":      {call{Call: "POST /api/runs/list", As: names{"admin"}}, `[]`, `[` + more + `]`, `[]`, `[` + more + `]`, false},
		"no list":           {list, `{}`, `[` + more + `]`, `{}`, `[` + more + `]`, false},
		"not in the real's": {list, `[` + more + `]`, `[]`, `[` + more + `]`, `[]`, false},
	} {
		t.Run(name, func(t *testing.T) {
			a.used = 0
			real, ours := a.drop(tt.call, decode([]byte(tt.real)), decode([]byte(tt.ours)))
			if diff := cmp.Diff([]any{decode([]byte(tt.wantReal)), decode([]byte(tt.wantOurs))}, []any{real, ours}); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if (a.used > 0) != tt.needed {
				t.Errorf("used %d times, needed: %v", a.used, tt.needed)
			}
		})
	}
}
