//go:build e2e

package lab

import "testing"

// OpenFor opens the lab for a test and closes it at the test's end.
func OpenFor(t *testing.T) *Lab {
	t.Helper()
	l, err := Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// ServerFor starts a server of its own for a test and stops it at the test's end.
func ServerFor(t *testing.T, env []string, args ...string) *Server {
	t.Helper()
	s, err := StartServer(t.Context(), t.TempDir(), env, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}
