package api

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"

	"dstack/controller/auth"
	"dstack/controller/store"
)

// persona is a kind of caller and the project that it calls for.
type persona struct {
	name, token, project string
	caller               auth.Caller
}

// personas adds a private and a public project with a member in each role,
// and returns who calls, in the order of testdata/access-0.22.5.txt.
func (r *rig) personas() []persona {
	r.t.Helper()
	private := store.Project{ID: uuid.NewString(), Name: "private", OwnerID: r.admin.ID, CreatedAt: r.now()}
	public := store.Project{ID: uuid.NewString(), Name: "public", OwnerID: r.admin.ID, IsPublic: true, CreatedAt: r.now()}
	var members []store.Member
	r.write(func(tx *store.Tx) error {
		for _, role := range []string{auth.RoleAdmin, auth.RoleManager, auth.RoleUser} {
			u := user("the-"+role, auth.RoleUser, "token-of-"+role, r.now())
			if err := tx.InsertUser(&u); err != nil {
				return err
			}
			members = append(members, store.Member{UserID: u.ID, Role: role})
		}
		for _, p := range []*store.Project{&private, &public} {
			if err := tx.InsertProject(p); err != nil {
				return err
			}
			if err := tx.SetMembers(p.ID, members); err != nil {
				return err
			}
		}
		return nil
	})
	as := func(role string) auth.Caller {
		return auth.Caller{User: store.User{GlobalRole: auth.RoleUser}, Project: private, Role: role}
	}
	outside := as("")
	outside.Project = public
	return []persona{
		{"global", adminToken, "private", auth.Caller{User: r.admin, Project: private}},
		{"admin", "token-of-admin", "private", as(auth.RoleAdmin)},
		{"manager", "token-of-manager", "private", as(auth.RoleManager)},
		{"user", "token-of-user", "private", as(auth.RoleUser)},
		{"public", outsiderToken, "public", outside},
		{"outsider", outsiderToken, "private", as("")},
		{"none", "", "private", auth.Caller{}},
		{"bad", "unknown-token", "private", auth.Caller{}},
	}
}

// real022 is what the real server answered, by route and persona.
func real022(t *testing.T) map[string][]string {
	t.Helper()
	data, err := os.ReadFile("testdata/access-0.22.5.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "/") {
			out[f[0]] = f[1:]
		}
	}
	return out
}

var parameter = regexp.MustCompile(`:(\w+)`)

// TestAccess calls every route as every kind of caller. Who may not call gets
// the answer of 0.22.5, byte for byte; who may gets any other.
func TestAccess(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	who, real := r.personas(), real022(t)
	for _, route := range routes() {
		level, _ := auth.LevelOf(route.path)
		if !strings.HasPrefix(route.path, "/api/") || level == auth.Elsewhere {
			continue
		}
		for i, p := range who {
			want := expected(level, p)
			if seen, ok := real[parameter.ReplaceAllString(route.path, "{$1}")]; ok && strings.HasPrefix(seen[i], "40") {
				refused := strings.TrimSuffix(seen[i], "*") == "403" || seen[i] == "401"
				if refused != (want != "") && !strings.HasSuffix(seen[i], "*") {
					t.Errorf("%s as %s: 0.22.5 answers %s, the table says %q", route.path, p.name, seen[i], want)
				}
			}
			path := strings.NewReplacer(":project_name", p.project, ":run_name", "none", ":backend_name", "aws").Replace(route.path)
			got := r.request(route.method, path, p.token, `{"zzz":1}`)
			refused := got.status == http.StatusUnauthorized || got.status == http.StatusForbidden || got.status == http.StatusNotFound
			switch {
			case want == "" && refused && !byRule(got):
				t.Errorf("%s as %s: %d %s, want it let in", route.path, p.name, got.status, got.body)
			case want != "" && got.body != want:
				t.Errorf("%s as %s: %d %s, want %s", route.path, p.name, got.status, got.body, want)
			}
		}
	}
}

// byRule says whether a caller was let in and refused by a rule of the
// endpoint.
func byRule(got answer) bool { return strings.HasPrefix(got.body, `{"msg":`) }

// expected is the body of a refusal, empty for none.
func expected(level auth.Level, p persona) string {
	switch {
	case level == auth.Open:
		return ""
	case p.name == "none":
		return `{"detail":"Not authenticated"}`
	case p.name == "bad":
		return `{"detail":{"msg":"Invalid token","code":null}}`
	case !p.caller.Passes(level):
		return `{"detail":{"msg":"Access denied","code":null}}`
	}
	return ""
}
