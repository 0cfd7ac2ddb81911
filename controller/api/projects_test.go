package api

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"dstack/controller/auth"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

const (
	bareDenied = `{"msg":"Access denied","code":null}`
	noProjects = `{"detail":[{"msg":"Failed to delete non-existent projects","code":"error"}]}`
)

func business(msg string) string { return `{"detail":[{"msg":"` + msg + `","code":"error"}]}` }

func denied(msg string) string { return `{"msg":"Access denied: ` + msg + `","code":null}` }

// people creates users with these names.
func (r *rig) people(names ...string) {
	for _, name := range names {
		post[api.User](r, "/api/users/create", `{"username":"`+name+`","global_role":"user","email":"`+name+`@example.com"}`)
	}
}

// members lists "name:role" of a project in order.
func (r *rig) members(project string) string {
	r.t.Helper()
	var out []string
	for _, m := range post[api.Project](r, "/api/projects/"+project+"/get", nil).Members {
		out = append(out, m.User.Username+":"+m.ProjectRole)
	}
	return strings.Join(out, " ")
}

func TestCreateProject(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.people("ann")
	const badName = `{"detail":[{"msg":"Project name should match regex '^[a-zA-Z0-9-_]{1,50}$'","code":"error"}]}`
	who := `"id":"*","username":"ann","created_at":"*","global_role":"user","email":"ann@example.com","active":true,` +
		`"permissions":{"can_create_projects":true},"ssh_public_key":"*"`
	r.run([]exchange{
		{"ann", "projects/create", `{"project_name":"p_1"}`, 200, `{"project_id":"*","project_name":"p_1","owner":{` + who + `},"created_at":"*","backends":[],` +
			`"members":[{"user":{` + who + `},"project_role":"admin","permissions":{"can_manage_ssh_fleets":true,"can_manage_secrets":true}}],` +
			`"is_public":false,"templates_repo":null}`},
		{"ann", "projects/create", `{"project_name":"P_1"}`, 400, resourceExists},
		{"ann", "projects/create", `{"project_name":"a b"}`, 400, badName},
		{"ann", "projects/create", `{"project_name":""}`, 400, badName},
		{"ann", "projects/create", `{"project_name":"` + strings.Repeat("x", 51) + `"}`, 400, badName},
		{"ann", "projects/create", `{"project_name":"p","x":1}`, 422, `…"type":"extra_forbidden"`},
		{"ann", "projects/create", `{"project_name":"p2","is_public":true,"templates_repo":"  "}`, 200, `…"is_public":true,"templates_repo":null`},
		{"ann", "projects/create", `{"project_name":"p3","templates_repo":" https://r "}`, 200, `…"templates_repo":"https://r"`},
		{"ann", "projects/create", `{"project_name":"p4","templates_repo":" nowhere "}`, 400, business("Cannot access templates repo: nowhere")},
		{"ann", "projects/p_1/update", `{"templates_repo":"nowhere"}`, 400, business("Cannot access templates repo: nowhere")},
		{"ann", "projects/p_1/update", `{"is_public":null,"templates_repo":null}`, 200, `…"is_public":false,"templates_repo":null`},
		{"ann", "projects/p_1/update", `{"is_public":true,"templates_repo":"https://r"}`, 200, `…"is_public":true,"templates_repo":"https://r"`},
		{"ann", "projects/p_1/update", `{"is_public":true,"templates_repo":""}`, 200, `…"is_public":true,"templates_repo":"https://r"`},
		{"ann", "projects/p_1/update", `{"reset_templates_repo":true,"templates_repo":"nowhere"}`, 200, `…"templates_repo":null`},
		{"outsider", "projects/p_1/update", `{"is_public":false}`, 403, accessDenied},
		{"admin", "projects/p_1/update", `{"is_public":false}`, 200, `…"is_public":false`},
		{"ann", "projects/none/update", `{}`, 404, `{"detail":{"msg":"Not found","code":null}}`},
	})
	want := []string{
		"ann: Project created → project p_1",
		"ann: Project created → project p2",
		"ann: Project created → project p3",
		"ann: Project updated. Updated fields: <none> → project p_1",
		"ann: Project updated. Updated fields: is_public=True, templates_repo=https://r → project p_1",
		"ann: Project updated. Updated fields: <none> → project p_1",
		"ann: Project updated. Updated fields: templates_repo=None → project p_1",
		"admin: Project updated. Updated fields: is_public=False → project p_1",
	}
	if diff := cmp.Diff(want, r.messages()[1:]); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	p := post[api.Project](r, "/api/projects/p_1/get", nil)
	r.write(func(tx *store.Tx) error {
		row, err := tx.Project(p.ProjectID)
		if !strings.HasSuffix(row.PublicKey, " p_1@dstack\n") || !strings.Contains(row.PrivateKey, "PRIVATE KEY") {
			t.Errorf("keys %q", row.PublicKey)
		}
		return err
	})
}

func TestProjectQuota(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(d *Deps) { d.ProjectQuota = 1 })
	const used = `{"detail":[{"msg":"User project quota exceeded","code":"error"}]}`
	r.run([]exchange{
		{"member", "projects/create", `{"project_name":"p1"}`, 200, `…p1`},
		{"member", "projects/create", `{"project_name":"p2"}`, 400, used},
		{"member", "projects/create", `{"project_name":"bad name"}`, 400, used},
		{"member", "projects/create", `{"project_name":"P1"}`, 400, resourceExists},
		{"member", "projects/delete", `{"projects_names":["p1"]}`, 200, `null`},
		{"member", "projects/create", `{"project_name":"p2"}`, 200, `…p2`},
		{"admin", "projects/create", `{"project_name":"p3"}`, 200, `…p3`},
		{"admin", "projects/create", `{"project_name":"p4"}`, 200, `…p4`},
	})
}

func TestProjectsForbidden(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(d *Deps) {
		p := config.StandardPermissions()
		p.AllowNonAdminsCreateProjects = false
		d.Policy = auth.Policy(p)
	})
	r.run([]exchange{
		{"member", "projects/create", `{"project_name":"p1"}`, 403, `{"msg":"User cannot create projects","code":null}`},
		{"member", "users/get_my_user", ``, 200, `…"can_create_projects":false`},
		{"admin", "projects/create", `{"project_name":"p1"}`, 200, `…p1`},
	})
}

// TestListOfUser is projects/list with a username: what the caller sees of
// what the user owns or is a member of, with that user's entry only.
func TestListOfUser(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.people("ann", "bob", "eve")
	member := func(name, role string) string { return `{"username":"` + name + `","project_role":"` + role + `"}` }
	r.run([]exchange{
		{"ann", "projects/create", `{"project_name":"private"}`, 200, `…private`},
		{"ann", "projects/create", `{"project_name":"public","is_public":true}`, 200, `…public`},
		{"ann", "projects/create", `{"project_name":"both"}`, 200, `…both`},
		{"bob", "projects/create", `{"project_name":"his"}`, 200, `…his`},
		{"ann", "projects/both/add_members", `{"members":[` + member("bob", "user") + `]}`, 200, `…bob`},
		{"ann", "projects/create", `{"project_name":"left"}`, 200, `…left`},
		{"ann", "projects/left/set_members", `{"members":[` + member("bob", "admin") + `]}`, 200, `…bob`},
	})
	for _, tt := range []struct{ as, body, want string }{
		{"ann", `{"username":"ann"}`, "both[ann] public[ann] private[ann]"},
		{"ann", `{"username":"bob"}`, "both[bob]"},
		{"ann", `{}`, "both[] public[] private[]"},
		{"bob", `{}`, "left[] his[] both[] public[]"},
		{"bob", `{"include_not_joined":false}`, "left[] his[] both[]"},
		{"bob", `{"username":"ann"}`, "left[] both[ann] public[ann]"},
		{"bob", `{"username":"ann","include_not_joined":false}`, "left[] both[ann]"},
		{"eve", `{"username":"ann"}`, "public[ann]"},
		{"eve", `{"username":"bob"}`, ""},
		{"admin", `{"username":"ann"}`, "left[] both[ann] public[ann] private[ann]"},
		{"admin", `{"username":"ANN"}`, ""},
		{"admin", `{"username":"nobody"}`, ""},
	} {
		a := r.request(http.MethodPost, "/api/projects/list", r.tokenOf(tt.as), tt.body)
		var got []string
		for _, p := range decode[[]api.Project](t, a.body) {
			var who []string
			for _, m := range p.Members {
				who = append(who, m.User.Username)
			}
			got = append(got, p.ProjectName+"["+strings.Join(who, " ")+"]")
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s %s: %v, want %s", tt.as, tt.body, got, tt.want)
		}
	}
	r.run([]exchange{{"eve", "projects/list", `{"username":"nobody","return_total_count":true}`, 200, `{"total_count":0,"projects":[]}`}})
	if got := names(t, r.request(http.MethodPost, "/api/projects/list_only_no_fleets", r.tokenOf("ann"), "").body, "project_name"); strings.Join(got, " ") != "private public both" {
		t.Errorf("without fleets: %v", got)
	}
}

func TestSetMembers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.people("ann", "bob", "cat", "dan")
	set := func(list ...string) string {
		var out []string
		for i := 0; i < len(list); i += 2 {
			out = append(out, `{"username":"`+list[i]+`","project_role":"`+list[i+1]+`"}`)
		}
		return `{"members":[` + strings.Join(out, ",") + `]}`
	}
	const p = "projects/p/"
	twice := business("Cannot add same user multiple times")
	r.run([]exchange{{"ann", "projects/create", `{"project_name":"p"}`, 200, `…p`}})
	steps := []struct {
		exchange
		members string
	}{
		{exchange{"ann", p + "set_members", set("ann", "admin", "nobody", "user", "bob", "manager", "cat", "user"), 200, `…bob`}, "ann:admin bob:manager cat:user"},
		{exchange{"ann", p + "set_members", set("ann", "admin", "bob", "manager", "bob", "user"), 400, twice}, ""},
		{exchange{"ann", p + "set_members", set("ann", "admin", "bob", "manager", "bob@example.com", "user"), 400, twice}, ""},
		{exchange{"ann", p + "set_members", set("cat", "user", "bob@example.com", "manager", "ann", "admin"), 200, `…bob`}, "cat:user bob:manager ann:admin"},
		{exchange{"ann", p + "set_members", set("cat", "user"), 400, business("Cannot remove all project admins")}, "cat:user bob:manager ann:admin"},
		{exchange{"bob", p + "set_members", set("bob", "manager"), 403, denied("changing project admins")}, ""},
		{exchange{"bob", p + "set_members", set("ann", "admin", "bob", "admin"), 403, denied("changing project admins")}, ""},
		{exchange{"bob", p + "set_members", set("ann", "admin", "bob", "manager"), 200, `…bob`}, "ann:admin bob:manager"},
		{exchange{"cat", p + "set_members", set(), 403, accessDenied}, ""},
		{exchange{"bob", p + "add_members", set("cat", "user", "dan", "manager"), 200, `…cat`}, "cat:user dan:manager ann:admin bob:manager"},
		{exchange{"bob", p + "add_members", set("nobody", "user"), 400, business("User not found: nobody")}, ""},
		{exchange{"bob", p + "add_members", set("nobody", "admin"), 403, denied("only global admins can add project admins")}, ""},
		{exchange{"bob", p + "add_members", set("ann", "user"), 403, denied("changing project admins")}, "cat:user dan:manager ann:admin bob:manager"},
		{exchange{"cat", p + "add_members", set("dan", "user"), 403, accessDenied}, ""},
		{exchange{"ann", p + "add_members", set("dan", "user", "dan@example.com", "user"), 400, twice}, "cat:user dan:manager ann:admin bob:manager"},
		{exchange{"ann", p + "add_members", set("dan", "admin"), 200, `…dan`}, "cat:user dan:admin ann:admin bob:manager"},
		{exchange{"ann", p + "add_members", set(), 200, `…dan`}, ""},

		{exchange{"cat", p + "remove_members", `{"usernames":["bob"]}`, 403, denied("insufficient permissions to remove members")}, ""},
		{exchange{"bob", p + "remove_members", `{"usernames":["nobody"]}`, 400, business("User not found: nobody")}, ""},
		{exchange{"bob", p + "remove_members", `{"usernames":["outsider","nobody"]}`, 400, business("User is not a member of this project: outsider")}, ""},
		{exchange{"bob", p + "remove_members", `{"usernames":["ann"]}`, 403, denied("only global admins can remove project admins (user: ann)")}, ""},
		{exchange{"ann", p + "remove_members", `{"usernames":["dan"]}`, 403, denied("only global admins can remove project admins (user: dan)")}, ""},
		{exchange{"admin", p + "remove_members", `{"usernames":["dan","ann"]}`, 400, business("Cannot remove all project admins")}, ""},
		{exchange{"admin", p + "remove_members", `{"usernames":["dan"]}`, 200, `…ann`}, "cat:user ann:admin bob:manager"},
		{exchange{"ann", p + "remove_members", `{"usernames":["ann"]}`, 400, business("Cannot leave project: you are the last admin")}, ""},
		{exchange{"cat", p + "remove_members", `{"usernames":["cat@example.com"]}`, 200, `…ann`}, "ann:admin bob:manager"},
		{exchange{"cat", p + "remove_members", `{"usernames":["cat"]}`, 403, accessDenied}, ""},
		{exchange{"ann", p + "remove_members", `{"usernames":["bob","bob"]}`, 200, `…ann`}, "ann:admin"},
		{exchange{"admin", p + "set_members", set("dan", "admin"), 200, `…dan`}, "dan:admin"},
	}
	for i, s := range steps {
		r.run([]exchange{s.exchange})
		if got := r.members("p"); s.members != "" && got != s.members {
			t.Errorf("step %d: members %s, want %s", i, got, s.members)
		}
	}
}

func TestJoinPublicProject(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.people("ann", "dan")
	const p = "projects/p/"
	cannot := denied("insufficient permissions to add members")
	r.run([]exchange{
		{"ann", "projects/create", `{"project_name":"p","is_public":true}`, 200, `…p`},
		{"dan", p + "get", ``, 200, `…"project_name":"p"`},
		{"dan", p + "add_members", `{"members":[{"username":"dan","project_role":"manager"}]}`, 403, denied("can only join public projects as user role")},
		{"dan", p + "add_members", `{"members":[{"username":"outsider","project_role":"user"}]}`, 403, cannot},
		{"dan", p + "add_members", `{"members":[]}`, 403, cannot},
		{"dan", p + "add_members", `{"members":[{"username":"dan@example.com","project_role":"user"}]}`, 200, `…dan`},
		{"dan", p + "add_members", `{"members":[{"username":"dan","project_role":"user"}]}`, 403, cannot},
		{"dan", p + "set_members", `{"members":[]}`, 403, accessDenied},
		{"outsider", p + "remove_members", `{"usernames":["dan"]}`, 403, accessDenied},
		{"dan", p + "remove_members", `{"usernames":["dan"]}`, 200, `…ann`},
	})
}

func TestDeleteProjects(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.people("ann")
	r.run([]exchange{
		{"ann", "projects/create", `{"project_name":"p1"}`, 200, `…p1`},
		{"ann", "projects/create", `{"project_name":"p2"}`, 200, `…p2`},
		{"ann", "projects/delete", `{"projects_names":["none"]}`, 403, bareDenied},
		{"ann", "projects/delete", `{"projects_names":["P1"]}`, 403, bareDenied},
		{"ann", "projects/delete", `{"projects_names":["p1","main"]}`, 403, bareDenied},
		{"outsider", "projects/delete", `{"projects_names":["p1"]}`, 403, bareDenied},
		{"ann", "projects/delete", `{"projects_names":["p1","p1"]}`, 400, noProjects},
		{"admin", "projects/delete", `{"projects_names":["p1","none"]}`, 400, noProjects},
		{"ann", "projects/delete", `{"projects_names":[]}`, 200, `null`},
		{"ann", "projects/delete", `{"projects_names":["p1"]}`, 200, `null`},
		{"ann", "projects/p1/get", ``, 404, `{"detail":{"msg":"Not found","code":null}}`},
		{"ann", "projects/p2/get", ``, 200, `…p2`},
		{"ann", "projects/create", `{"project_name":"p1"}`, 200, `…p1`},
		{"admin", "projects/delete", `{"projects_names":["main"]}`, 200, `null`},
	})
	for _, e := range post[[]api.Event](r, "/api/events/list", `{"include_target_types":["project"]}`) {
		if e.Message == "Project deleted" && (!*e.Targets[0].IsProjectDeleted || strings.HasPrefix(*e.Targets[0].ProjectName, "_")) {
			t.Errorf("%+v", e.Targets[0])
		}
	}
}

// TestDeleteUsedProject refuses while something lives in the project.
func TestDeleteUsedProject(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := store.Run{ID: uuid.NewString(), ProjectID: r.main.ID, UserID: r.admin.ID, Name: "r1", Status: api.RunRunning, SubmittedAt: r.now()}
	fleet := store.Fleet{ID: uuid.NewString(), ProjectID: r.main.ID, Name: "f1", Status: api.FleetTerminating, CreatedAt: r.now()}
	volume := store.Volume{ID: uuid.NewString(), ProjectID: r.main.ID, UserID: r.admin.ID, Name: "v1", Status: api.VolumeSubmitted, CreatedAt: r.now()}
	r.write(func(tx *store.Tx) error {
		if err := tx.InsertRun(&run); err != nil {
			return err
		}
		if err := tx.InsertVolume(&volume); err != nil {
			return err
		}
		return tx.InsertFleet(&fleet)
	})
	remove := func(status int, want string) {
		t.Helper()
		r.run([]exchange{{"admin", "projects/delete", `{"projects_names":["main"]}`, status, want}})
	}
	remove(400, business("Failed to delete project with active runs: ['r1']"))
	run.Status = api.RunDone
	r.write(func(tx *store.Tx) error { return tx.UpdateRun(&run) })
	remove(400, business("Failed to delete project with active fleets: ['f1']"))
	fleet.Deleted = true
	r.write(func(tx *store.Tx) error { return tx.UpdateFleet(&fleet) })
	remove(400, business("Failed to delete project with active volumes: ['v1']"))
	volume.Deleted = true
	r.write(func(tx *store.Tx) error { return tx.UpdateVolume(&volume) })
	remove(200, "null")
}

// TestProjectPages walks projects of the same age.
func TestProjectPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	at := r.now()
	r.write(func(tx *store.Tx) error {
		for i := range 5 {
			p := store.Project{ID: uuid.NewString(), Name: "p" + strconv.Itoa(i), OwnerID: r.admin.ID, CreatedAt: at}
			if err := tx.InsertProject(&p); err != nil {
				return err
			}
		}
		return nil
	})
	seen := map[string]bool{}
	cursor := ""
	for pages := 0; ; pages++ {
		page := post[api.ProjectsInfoList](r, "/api/projects/list", `{"return_total_count":true,"limit":2`+cursor+`}`)
		if page.TotalCount != 6 {
			t.Fatalf("total %d", page.TotalCount)
		}
		if len(page.Projects) == 0 {
			break
		}
		last := page.Projects[len(page.Projects)-1]
		text, err := last.CreatedAt.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		cursor = `,"prev_created_at":` + string(text) + `,"prev_id":"` + last.ProjectID + `"`
		for _, p := range page.Projects {
			seen[p.ProjectName] = true
		}
	}
	if len(seen) != 6 {
		t.Errorf("saw %v", seen)
	}
}
