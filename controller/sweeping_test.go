package controller

import (
	"os"
	"strings"
	"testing"
)

// TestCopiedDatabase says so at the start of a copy, and gives its machines
// another tag; the original, and the copy from then on, start as ever.
func TestCopiedDatabase(t *testing.T) {
	t.Parallel()
	original, home := t.TempDir(), t.TempDir()
	begin := func(home string) (tag string, warned bool) {
		t.Helper()
		cfg, out := testConfig(t, home)
		s, err := New(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.close(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s.tag, strings.Contains(out.String(), "The database was restored or copied")
	}
	first, warned := begin(original)
	if first == "" || warned {
		t.Errorf("a new one: tag %q, warned %t", first, warned)
	}
	if err := os.CopyFS(home, os.DirFS(original)); err != nil {
		t.Fatal(err)
	}
	if tag, warned := begin(original); tag != first || warned {
		t.Errorf("the original: tag %q, before %q, warned %t", tag, first, warned)
	}
	copied, warned := begin(home)
	if copied == first || !warned {
		t.Errorf("the copy: tag %q, the original's %q, warned %t", copied, first, warned)
	}
	if tag, warned := begin(home); tag != copied || warned {
		t.Errorf("the copy, again: tag %q, before %q, warned %t", tag, copied, warned)
	}
}
