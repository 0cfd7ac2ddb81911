package api

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEventsOfChanges expects an event of each change for which 0.22.5 has
// none, and none of a call that changes nothing.
func TestEventsOfChanges(t *testing.T) {
	t.Parallel()
	const (
		members = "projects/main/"
		project = "project/main/"
		repo    = `{"repo_id":"r","repo_info":{"repo_type":"remote","repo_name":"n"},"repo_creds":`
		renamed = `{"repo_id":"r","repo_info":{"repo_type":"remote","repo_name":"m"}}`
		creds   = `{"clone_url":"https://example.com/r.git","private_key":null,"oauth_token":"t"}}`
	)
	for name, c := range map[string]struct {
		steps []exchange
		want  []string
	}{
		"members": {
			[]exchange{
				{"admin", members + "add_members", `{"members":[{"username":"bob","project_role":"user"}]}`, 200, "…bob"},
				{"admin", members + "add_members", `{"members":[{"username":"bob","project_role":"user"}]}`, 200, "…bob"},
				{"admin", members + "add_members", `{"members":[{"username":"bob","project_role":"manager"}]}`, 200, "…bob"},
				{"admin", members + "set_members", `{"members":[{"username":"admin","project_role":"admin"},{"username":"bob","project_role":"user"}]}`, 200, "…bob"},
				{"bob", members + "remove_members", `{"usernames":["bob"]}`, 200, "…admin"},
			},
			[]string{
				"admin: Member bob added. Role: user → project main, user bob",
				"admin: Member bob updated. Role: manager → project main, user bob",
				"admin: Member bob updated. Role: user → project main, user bob",
				"admin: Member member removed → project main, user member",
				"bob: Member bob removed → project main, user bob",
			},
		},
		"backends": {
			[]exchange{
				{"admin", project + "backends/create", awsBody, 200, "…aws"},
				{"admin", project + "backends/update", awsBody, 200, "…aws"},
				{"admin", project + "backends/update", strings.Replace(awsBody, "eu-west-1", "us-east-1", 1), 200, "…aws"},
				{"admin", project + "backends/delete", `{"backends_names":["aws","gcp"]}`, 200, "null"},
			},
			[]string{
				"admin: Backend aws created → project main",
				"admin: Backend aws updated → project main",
				"admin: Backend aws deleted → project main",
			},
		},
		"repos": {
			[]exchange{
				{"member", project + "repos/init", repo + creds, 200, "null"},
				{"member", project + "repos/init", repo + creds, 200, "null"},
				{"member", project + "repos/init", renamed, 200, "null"},
				{"member", project + "repos/delete", `{"repos_ids":["r","s"]}`, 200, "null"},
			},
			[]string{
				"member: Repo r added → project main",
				"member: Credentials of repo r saved → project main, user member",
				"member: Repo r updated → project main",
				"member: Credentials of repo r removed → project main, user member",
				"member: Repo r deleted → project main",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.people("bob")
			before := r.messages()
			r.run(c.steps)
			if diff := cmp.Diff(c.want, r.messages()[len(before):]); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}
