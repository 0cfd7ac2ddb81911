package api

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"dstack/controller/auth"
	"dstack/controller/store"
	"dstack/protocol/api"
)

const (
	resourceExists   = `{"detail":[{"msg":"Resource exists","code":"resource_exists"}]}`
	resourceNotFound = `{"detail":[{"msg":"Resource not found","code":"resource_not_exists"}]}`
	accessDenied     = `{"detail":{"msg":"Access denied","code":null}}`
	invalidToken     = `{"detail":{"msg":"Invalid token","code":null}}`
	badUsername      = `{"detail":[{"msg":"Username should match regex '^[a-zA-Z0-9-_]{1,60}$'","code":"error"}]}`
	noSuchUsers      = `{"detail":[{"msg":"Failed to delete non-existent users","code":"error"}]}`
)

// TestUsers follows rest-api.md 7.1 and the texts of 0.22.5.
func TestUsers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	alice := func(email, active string) string {
		return `"username":"alice","created_at":"*","global_role":"user","email":` + email + `,"active":` + active +
			`,"permissions":{"can_create_projects":true},"ssh_public_key":"*"`
	}
	r.run([]exchange{
		{"admin", "users/create", `{"username":"alice","global_role":"user"}`, 200, `{"id":"*",` + alice("null", "true") + `}`},
		{"admin", "users/create", `{"username":"ALICE","global_role":"user"}`, 400, resourceExists},
		{"admin", "users/create", `{"username":"al ice","global_role":"user"}`, 400, badUsername},
		{"admin", "users/create", `{"username":"","global_role":"user"}`, 400, badUsername},
		{"admin", "users/create", `{"username":"` + strings.Repeat("x", 61) + `","global_role":"user"}`, 400, badUsername},
		{"admin", "users/create", `{"username":"bob","global_role":"boss"}`, 422, `…"type":"enum","loc":["body","global_role"]`},
		{"admin", "users/create", `{"username":"bob","global_role":"user","active":null}`, 422, `…"loc":["body","active"]`},
		{"member", "users/create", `{"username":"bob","global_role":"user"}`, 403, accessDenied},
		{"admin", "users/create", `{"username":"bob","global_role":"user","email":"b@example.com","active":false}`, 200, `…"email":"b@example.com","active":false`},
		{"bob", "users/get_my_user", ``, 403, invalidToken},

		{"admin", "users/get_user", `{"username":"nobody"}`, 400, resourceNotFound},
		{"admin", "users/get_user", `{"username":"Alice"}`, 400, resourceNotFound},
		{"alice", "users/get_user", `{"username":"bob"}`, 400, resourceNotFound},
		{"alice", "users/get_user", `{"username":"alice"}`, 200, `{"id":"*",` + alice("null", "true") + `,"creds":{"token":"*"},"ssh_private_key":"*"}`},

		{"admin", "users/list", ``, 200, `…"username":"bob"`},
		{"alice", "users/list", ``, 200, `[{"id":"*",` + alice("null", "true") + `}]`},
		{"alice", "users/list", `{"name_pattern":"bob"}`, 200, `[]`},
		{"alice", "users/list", `{"return_total_count":true,"limit":0}`, 200, `{"total_count":1,"users":[]}`},
		{"admin", "users/list", `{"name_pattern":"LIC"}`, 200, `[{"id":"*",` + alice("null", "true") + `}]`},
		{"admin", "users/list", `{"name_pattern":"%"}`, 422, `…"type":"string_pattern_mismatch","loc":["body","name_pattern"]`},
		{"admin", "users/list", `{"limit":2001}`, 422, `…"type":"less_than_equal"`},

		{"admin", "users/update", `{"username":"alice","global_role":"user","email":"a@example.com"}`, 200, `{"id":"*",` + alice(`"a@example.com"`, "true") + `}`},
		{"admin", "users/update", `{"username":"alice","global_role":"user","active":false}`, 200, `{"id":"*",` + alice("null", "false") + `}`},
		{"alice", "users/get_my_user", ``, 403, invalidToken},
		{"admin", "users/update", `{"username":"alice","global_role":"user"}`, 200, `{"id":"*",` + alice("null", "true") + `}`},
		{"alice", "users/get_my_user", ``, 200, `…"username":"alice"`},
		{"admin", "users/update", `{"username":"alice","global_role":"user"}`, 200, `…"active":true`},
		{"admin", "users/update", `{"username":"nobody","global_role":"user"}`, 400, resourceNotFound},
		{"alice", "users/update", `{"username":"alice","global_role":"admin"}`, 403, accessDenied},

		{"alice", "users/refresh_token", `{"username":"bob"}`, 403, accessDenied},
		{"alice", "users/refresh_token", `{"username":"nobody"}`, 403, accessDenied},
		{"alice", "users/refresh_ssh_key", `{"username":"bob"}`, 403, accessDenied},
		{"admin", "users/refresh_token", `{"username":"nobody"}`, 400, resourceNotFound},
		{"admin", "users/refresh_ssh_key", `{"username":"nobody"}`, 400, resourceNotFound},

		{"admin", "users/delete", `{"users":["admin","bob"]}`, 400, `{"detail":[{"msg":"User 'admin' cannot be deleted","code":"error"}]}`},
		{"admin", "users/delete", `{"users":["bob","nobody"]}`, 400, noSuchUsers},
		{"admin", "users/delete", `{"users":["BOB"]}`, 400, noSuchUsers},
		{"admin", "users/delete", `{"users":["bob","bob"]}`, 400, noSuchUsers},
		{"admin", "users/delete", `{"users":[]}`, 200, `null`},
		{"alice", "users/delete", `{"users":["bob"]}`, 403, accessDenied},
		{"admin", "users/delete", `{"users":["bob"]}`, 200, `null`},
		{"admin", "users/get_user", `{"username":"bob"}`, 400, resourceNotFound},
		{"admin", "users/create", `{"username":"bob","global_role":"user"}`, 200, `…"username":"bob"`},
	})
	want := []string{
		"admin: User created → user alice",
		"admin: User created → user bob",
		"admin: User updated. Updated fields: email → user alice",
		"admin: User updated. Updated fields: email, active=False → user alice",
		"admin: User updated. Updated fields: active=True → user alice",
		"admin: User updated. Updated fields: <none> → user alice",
		"admin: User deleted → user bob",
		"admin: User created → user bob",
	}
	if diff := cmp.Diff(want, r.messages()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestRefreshToken ends the old token at once, and makes a key pair that fits.
func TestRefreshToken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	old := r.tokenOf("member")
	fresh := post[api.UserWithCreds](r, "/api/users/refresh_token", `{"username":"member"}`)
	if a := r.request(http.MethodPost, "/api/users/get_my_user", old, ""); a.status != http.StatusForbidden || a.body != invalidToken {
		t.Errorf("the old token: %d %s", a.status, a.body)
	}
	if a := r.request(http.MethodPost, "/api/users/get_my_user", fresh.Creds.Token, ""); a.status != http.StatusOK {
		t.Errorf("the new token: %d %s", a.status, a.body)
	}
	keys := post[api.UserWithCreds](r, "/api/users/refresh_ssh_key", `{"username":"member"}`)
	signer, err := ssh.ParsePrivateKey([]byte(*keys.SSHPrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " member\n"; *keys.SSHPublicKey != want {
		t.Errorf("public key %q, want %q", *keys.SSHPublicKey, want)
	}
}

// TestMissingKeyPair makes one for a user that has none.
func TestMissingKeyPair(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.write(func(tx *store.Tx) error {
		u := user("bare", auth.RoleUser, "bare-token", r.now())
		u.PublicKey, u.PrivateKey = "", ""
		return tx.InsertUser(&u)
	})
	for range 2 { // the second call finds what the first stored
		r.run([]exchange{{"bare", "users/get_my_user", ``, 200, `…"ssh_private_key":"*"`}})
	}
	if diff := cmp.Diff([]string{"bare: User SSH key refreshed → user bare"}, r.messages()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestRunWithoutKeyPair makes a key pair for a user without one who plans or
// applies a run that brings no key (spec: rest-api.md 7.5).
func TestRunWithoutKeyPair(t *testing.T) {
	t.Parallel()
	const task = `{"run_name":"$","configuration":{"type":"task","image":"scratch","commands":["a"]},"profile":{"name":"default"}}`
	for path, body := range map[string]string{
		"runs/get_plan": `{"run_spec":` + task + `}`,
		"runs/apply":    `{"plan":{"run_spec":` + task + `},"force":false}`,
		"gpus/list":     `{"run_spec":` + task + `}`,
	} {
		r := newRig(t)
		r.write(func(tx *store.Tx) error {
			u := user("bare", auth.RoleUser, "bare-token", r.now())
			u.PublicKey, u.PrivateKey = "", ""
			if err := tx.InsertUser(&u); err != nil {
				return err
			}
			return tx.AddMember(r.main.ID, u.ID, auth.RoleUser)
		})
		keyed := "…{"
		if path != "gpus/list" {
			keyed = `…"ssh_key_pub":"ssh-rsa `
		}
		r.run([]exchange{
			{"bare", "project/main/" + path, strings.Replace(body, "$", "one", 1), 200, keyed},
			{"bare", "project/main/" + path, strings.Replace(body, "$", "two", 1), 200, keyed},
		})
		made := slices.DeleteFunc(r.messages(), func(s string) bool { return !strings.Contains(s, "key") })
		if diff := cmp.Diff([]string{"bare: User SSH key refreshed → user bare"}, made); diff != "" {
			t.Errorf("%s: events (-want +got):\n%s", path, diff)
		}
	}
}

// TestDeletedUser keeps its name in events, loses its memberships and is
// shown under another name as the owner of its projects.
func TestDeletedUser(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.run([]exchange{
		{"admin", "users/create", `{"username":"alice","global_role":"user","email":"a@example.com"}`, 200, `…alice`},
		{"alice", "projects/create", `{"project_name":"hers"}`, 200, `…"project_role":"admin"`},
		{"admin", "users/delete", `{"users":["alice"]}`, 200, `null`},
		{"admin", "projects/hers/get", ``, 200, `…"username":"_deleted_17`},
		{"admin", "projects/hers/get", ``, 200, `…"email":"a@example.com","active":false`},
		{"admin", "projects/hers/get", ``, 200, `…"members":[]`},
	})
	for _, e := range post[[]api.Event](r, "/api/events/list", `{"include_target_types":["project"]}`) {
		if *e.ActorUser != "alice" || !*e.IsActorUserDeleted {
			t.Errorf("actor %s, deleted %v", *e.ActorUser, *e.IsActorUserDeleted)
		}
	}
}

// TestUserPages walks users of the same age in both directions.
func TestUserPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	at := r.now()
	r.write(func(tx *store.Tx) error {
		for _, name := range []string{"u1", "u2", "u3", "u4"} {
			u := user(name, auth.RoleUser, name, at)
			if err := tx.InsertUser(&u); err != nil {
				return err
			}
		}
		return nil
	})
	for _, order := range []string{"false", "true"} {
		seen := map[string]bool{}
		cursor := ""
		for {
			page := post[[]api.User](r, "/api/users/list", `{"limit":2,"ascending":`+order+cursor+`}`)
			if len(page) == 0 {
				break
			}
			last := page[len(page)-1]
			at, err := last.CreatedAt.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			cursor = `,"prev_created_at":` + string(at) + `,"prev_id":"` + last.ID + `"`
			for _, u := range page {
				if seen[u.Username] {
					t.Fatalf("%s comes twice", u.Username)
				}
				seen[u.Username] = true
			}
		}
		if len(seen) != 7 {
			t.Errorf("ascending %s: %d users", order, len(seen))
		}
	}
}
