package api

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dstack/protocol/api"
)

// exchange is one call of a sequence and what it must get.
type exchange struct {
	// as is the name of the caller: admin, member, outsider or one that a step
	// before created.
	as   string
	path string
	body string
	// want is the answer, or a part of it if it begins with "…": every pair of
	// quotes around id, time and key is "*".
	status int
	want   string
}

// run calls one after another. path is below /api/.
func (r *rig) run(steps []exchange) {
	r.t.Helper()
	for i, s := range steps {
		got := r.request(http.MethodPost, "/api/"+s.path, r.tokenOf(s.as), s.body)
		text := plainAnswer(got.body)
		fits := text == s.want
		if part, ok := strings.CutPrefix(s.want, "…"); ok {
			fits = strings.Contains(text, part)
		}
		if got.status != s.status || !fits {
			r.t.Errorf("step %d: %s as %s with %s:\n%d %s\nwant\n%d %s", i, s.path, s.as, s.body, got.status, text, s.status, s.want)
		}
	}
}

// tokenOf is the token of a user, whoever may know it.
func (r *rig) tokenOf(name string) string {
	r.t.Helper()
	switch name {
	case "admin":
		return adminToken
	case "member":
		return memberToken
	case "outsider":
		return outsiderToken
	case "":
		return ""
	}
	return post[api.UserWithCreds](r, "/api/users/get_user", map[string]string{"username": name}).Creds.Token
}

var variable = regexp.MustCompile(`"(id|project_id|created_at|added_at|token|ssh_public_key|ssh_private_key)":"[^"]*"`)

func plainAnswer(body string) string { return variable.ReplaceAllString(body, `"$1":"*"`) }

// messages lists "actor: message → targets" of all events, oldest first.
func (r *rig) messages() []string {
	r.t.Helper()
	var out []string
	for _, e := range post[[]api.Event](r, "/api/events/list", `{"ascending":true}`) {
		actor := "system"
		if e.ActorUser != nil {
			actor = *e.ActorUser
		}
		var targets []string
		for _, t := range e.Targets {
			targets = append(targets, t.Type+" "+t.Name)
		}
		out = append(out, actor+": "+e.Message+" → "+strings.Join(targets, ", "))
	}
	return out
}

// names lists one field of the elements of an answer.
func names(t *testing.T, body, field string) []string {
	t.Helper()
	var list []map[string]any
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	out := make([]string, len(list))
	for i, x := range list {
		out[i], _ = x[field].(string)
	}
	return slices.Clip(out)
}

func decode[T any](t *testing.T, body string) T {
	t.Helper()
	var out T
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return out
}
