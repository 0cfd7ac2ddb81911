//go:build e2e

package cloudlab

import (
	"testing"

	"dstack/test/lab"
)

// OpenFor opens a cloud for a test and closes it at the test's end.
func OpenFor(t *testing.T, l *lab.Lab) *Cloud {
	t.Helper()
	c, err := Open(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}
