package cli

import (
	"bytes"
	"testing"

	"dstack/cli/term"
	"dstack/protocol/api"
)

// TestNothingSwept: what did not answer is not called accounted for.
func TestNothingSwept(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		missing []string
		want    string
	}{
		{nil, "Every machine of this server is in a fleet.\n"},
		{[]string{"Project p: no answer"}, "Every machine of this server that was shown is in a fleet.\n"},
	} {
		var out, err bytes.Buffer
		a := &App{Console: &term.Console{Out: &out, Err: &err}}
		a.showStrays(api.SweepReport{Missing: c.missing})
		if out.String() != c.want || bytes.Contains(err.Bytes(), []byte("no answer")) != (c.missing != nil) {
			t.Errorf("%q: %q, %q", c.missing, out.String(), err.String())
		}
	}
}
