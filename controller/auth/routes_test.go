package auth_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/auth"
	"dstack/controller/store"
)

var update = flag.Bool("update", false, "write testdata/matrix.txt anew")

// callers are all kinds of callers with a valid token.
func callers() []struct {
	name   string
	caller auth.Caller
} {
	member := func(role string) auth.Caller {
		return auth.Caller{User: store.User{GlobalRole: "user"}, Role: role}
	}
	return []struct {
		name   string
		caller auth.Caller
	}{
		{"global admin", auth.Caller{User: store.User{GlobalRole: "admin"}}},
		{"admin", member("admin")},
		{"manager", member("manager")},
		{"user", member("user")},
		{"public", auth.Caller{User: store.User{GlobalRole: "user"}, Project: store.Project{IsPublic: true}}},
		{"outsider", member("")},
	}
}

// TestMatrix compares the whole table, role by route, with what a person
// reviewed: testdata/matrix.txt. Run it with -update after a change.
func TestMatrix(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	fmt.Fprintf(&b, "%-72s %-22s", "route", "level")
	for _, c := range callers() {
		fmt.Fprintf(&b, " %12s", c.name)
	}
	for _, route := range auth.Routes() {
		level, _ := auth.LevelOf(route)
		fmt.Fprintf(&b, "\n%-72s %-22s", route, level)
		for _, c := range callers() {
			fmt.Fprintf(&b, " %12s", map[bool]string{true: "yes", false: "-"}[c.caller.Passes(level)])
		}
	}
	b.WriteString("\n")
	const file = "testdata/matrix.txt"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("the table changed: look at it, then run the test with -update (-reviewed +now):\n%s", diff)
	}
}

// TestUnknownRoute is what nobody thought of.
func TestUnknownRoute(t *testing.T) {
	t.Parallel()
	for _, route := range []string{"", "/", "/api/something/new", "/api/project/:project_name/runs", "/api/project/main/runs/list"} {
		if level, ok := auth.LevelOf(route); ok || level != auth.GlobalAdmin {
			t.Errorf("LevelOf(%q) = %s, %v", route, level, ok)
		}
	}
}
