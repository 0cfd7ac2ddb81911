package controller

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestVariablesDocumented holds docs/variables.md against what is read: each
// variable has its line, and each line its variable. What is left out is not
// read.
func TestVariablesDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/variables.md")
	if err != nil {
		t.Fatal(err)
	}
	honoured, leftOut, found := strings.Cut(string(page), "\n## Left out\n")
	if !found {
		t.Fatal("the page has no section of what is left out")
	}
	var read []string
	if _, err := SettingsFrom(func(name string) string {
		read = append(read, name)
		return ""
	}, "/home/u"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sorted(read), variables(honoured)); diff != "" {
		t.Errorf("variables that are read and that are documented (-read +documented):\n%s", diff)
	}
	for _, name := range variables(leftOut) {
		if slices.Contains(read, name) {
			t.Errorf("%s is said to be left out, and is read", name)
		}
	}
}

// variables are those of the first column of tables.
func variables(page string) []string {
	var names []string
	for line := range strings.Lines(page) {
		if column, _, ok := strings.Cut(strings.TrimPrefix(line, "| `"), " | "); ok && strings.HasPrefix(line, "| `") {
			names = append(names, regexp.MustCompile(`[A-Z][A-Z0-9_]+`).FindAllString(column, -1)...)
		}
	}
	return sorted(names)
}

func sorted(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }
