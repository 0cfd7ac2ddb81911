package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"dstack/controller/auth"
	"dstack/controller/store"
	"dstack/protocol/api"
)

const (
	secrets      = "/api/project/main/secrets/"
	managerToken = "manager-token"
)

// addManager makes a manager of project main.
func (r *rig) addManager() {
	r.t.Helper()
	u := user("manager", auth.RoleUser, managerToken, r.now())
	r.write(func(tx *store.Tx) error {
		if err := tx.InsertUser(&u); err != nil {
			return err
		}
		members, err := tx.Members(r.main.ID)
		if err != nil {
			return err
		}
		return tx.SetMembers(r.main.ID, append(members, store.Member{UserID: u.ID, Role: auth.RoleManager}))
	})
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if list := post[[]api.Secret](r, secrets+"list", nil); list == nil || len(list) != 0 {
		t.Errorf("at first: %v", list)
	}
	set := func(name, value string) api.Secret {
		return post[api.Secret](r, secrets+"create_or_update", map[string]string{"name": name, "value": value})
	}
	a := set("A", "v1")
	if uuid.Validate(a.ID) != nil || a.Name != "A" || *a.Value != "v1" {
		t.Errorf("created %+v", a)
	}
	if again := set("A", "v1"); again.ID != a.ID {
		t.Errorf("set again: %+v", again)
	}
	if changed := set("A", "v2"); changed.ID != a.ID || *changed.Value != "v2" {
		t.Errorf("changed: %+v", changed)
	}
	lower, empty := set("a", "other"), set("B-1", "")
	want := []api.Secret{{ID: empty.ID, Name: "B-1"}, {ID: lower.ID, Name: "a"}, {ID: a.ID, Name: "A"}}
	if diff := cmp.Diff(want, post[[]api.Secret](r, secrets+"list", nil)); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if got := post[api.Secret](r, secrets+"get", `{"name":"A"}`); got.ID != a.ID || *got.Value != "v2" {
		t.Errorf("get %+v", got)
	}
	if msg, code := refused(r, secrets+"delete", `{"secrets_names":["A","zz","yy","zz"]}`); msg != "Secrets not found: yy, zz" || code != "resource_not_exists" {
		t.Errorf("delete of missing ones: %s %s", msg, code)
	}
	post[any](r, secrets+"delete", `{"secrets_names":["A","A"]}`)
	post[any](r, secrets+"delete", `{"secrets_names":[]}`)
	if msg, code := refused(r, secrets+"get", `{"name":"A"}`); msg != "Resource not found" || code != "resource_not_exists" {
		t.Errorf("get of a deleted one: %s %s", msg, code)
	}
	var got []string
	for _, e := range post[[]api.Event](r, "/api/events/list", `{"target_secrets":["`+a.ID+`"]}`) {
		got = append(got, e.Message)
		if e.ActorUser == nil || *e.ActorUser != "admin" || e.Targets[0].Name != "A" || *e.Targets[0].ProjectName != "main" {
			t.Errorf("event %+v", e)
		}
	}
	if diff := cmp.Diff([]string{"Secret deleted", "Secret updated", "Secret created"}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestBadSecrets(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const badName, tooLong = "Secret name should match regex '^[A-Za-z0-9-_]{1,200}$", "Secret value length must not exceed 5000"
	for name, tt := range map[string]struct{ name, value, want string }{
		"empty":              {"", "x", badName},
		"blank":              {"a b", "x", badName},
		"line end":           {"a\n", "x", badName},
		"not ASCII":          {"é", "x", badName},
		"long":               {strings.Repeat("a", 201), "x", badName},
		"long value":         {"a", strings.Repeat("a", 5001), tooLong},
		"longest":            {strings.Repeat("-", 200), strings.Repeat("é", 5000), ""},
		"digits and a value": {"1_-", "${{ x", ""},
	} {
		body := map[string]string{"name": tt.name, "value": tt.value}
		if tt.want == "" {
			post[api.Secret](r, secrets+"create_or_update", body)
			continue
		}
		if msg, code := refused(r, secrets+"create_or_update", body); msg != tt.want || code != "error" {
			t.Errorf("%s: %s %s", name, code, msg)
		}
	}
}

// TestWhoMaySecrets calls every route of secrets in every role.
func TestWhoMaySecrets(t *testing.T) {
	t.Parallel()
	for _, managers := range []bool{false, true} {
		r := newRig(t, func(d *Deps) { d.Policy.AllowManagersManageSecrets = managers })
		r.addManager()
		post[api.Secret](r, secrets+"create_or_update", `{"name":"A","value":"v"}`)
		for _, c := range []struct {
			token string
			want  int
		}{
			{outsiderToken, http.StatusForbidden},
			{memberToken, http.StatusForbidden},
			{managerToken, map[bool]int{false: http.StatusForbidden, true: http.StatusOK}[managers]},
			{adminToken, http.StatusOK},
		} {
			for path, body := range map[string]string{
				"list": "", "get": `{"name":"A"}`, "create_or_update": `{"name":"A","value":"w"}`, "delete": `{"secrets_names":[]}`,
			} {
				if a := r.request(http.MethodPost, secrets+path, c.token, body); a.status != c.want || a.status == http.StatusForbidden && strings.Contains(a.body, "A\"") {
					t.Errorf("%s as %s, managers may: %t: %d %s, want %d", path, c.token, managers, a.status, a.body, c.want)
				}
			}
		}
	}
}

// TestSecretsOfDeletedProject leaves no value behind.
func TestSecretsOfDeletedProject(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	post[any](r, secrets+"create_or_update", `{"name":"token","value":"x"}`)
	post[any](r, "/api/projects/delete", `{"projects_names":["main"]}`)
	r.write(func(tx *store.Tx) error {
		left, err := tx.Secrets(r.main.ID)
		if len(left) > 0 {
			t.Errorf("%d secrets are left", len(left))
		}
		return err
	})
}
