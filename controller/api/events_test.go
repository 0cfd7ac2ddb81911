package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// eventWorld has events about everything in two projects; ids are by name.
func eventWorld(t *testing.T) (r *rig, ids map[string]string) {
	t.Helper()
	r = newRig(t)
	r.people("ann", "bob")
	r.run([]exchange{
		{"ann", "projects/create", `{"project_name":"p"}`, 200, `…p`},
		{"bob", "projects/create", `{"project_name":"q"}`, 200, `…q`},
	})
	ids = map[string]string{"main": r.main.ID}
	for _, name := range []string{"ann", "bob", "admin"} {
		ids[name] = post[api.UserWithCreds](r, "/api/users/get_user", `{"username":"`+name+`"}`).ID
	}
	for _, name := range []string{"p", "q"} {
		ids[name] = post[api.Project](r, "/api/projects/"+name+"/get", nil).ProjectID
	}
	for _, name := range []string{"fleet", "instance", "run", "job", "volume", "gateway", "replica", "secret", "preset", "qjob"} {
		ids[name] = uuid.NewString()
	}
	p, q := ids["p"], ids["q"]
	run, fleet, gateway := ids["run"], ids["fleet"], ids["gateway"]
	target := func(kind, name string) store.EventTarget {
		return store.EventTarget{Type: kind, ProjectID: &p, ID: ids[name], Name: name}
	}
	instance, job, replica := target("instance", "instance"), target("job", "job"), target("gateway-replica", "replica")
	instance.FleetID, job.RunID, replica.GatewayID = &fleet, &run, &gateway
	foreign := store.EventTarget{Type: "job", ProjectID: &q, ID: ids["qjob"], Name: "qjob", RunID: new(uuid.NewString())}
	about := func(message, actor string, targets ...store.EventTarget) store.Event {
		e := store.Event{ID: uuid.NewString(), Message: message, RecordedAt: r.now(), Targets: targets}
		if actor != "" {
			e.ActorID = new(ids[actor])
		}
		return e
	}
	r.write(func(tx *store.Tx) error {
		if err := tx.InsertEvents(
			about("fleet", "ann", target("fleet", "fleet")), about("instance", "", instance),
			about("run", "ann", target("run", "run")), about("job", "", job), about("placed", "", job, instance),
			about("volume", "ann", target("volume", "volume")), about("gateway", "admin", target("gateway", "gateway")),
			about("replica", "", replica), about("secret", "ann", target("secret", "secret")), about("preset", "ann", target("preset", "preset")),
			about("lent", "", foreign, instance), about("foreign", "bob", foreign),
		); err != nil {
			return err
		}
		return nil
	})
	return r, ids
}

// TestEventFilters asks with every filter of rest-api.md 11.4.
func TestEventFilters(t *testing.T) {
	t.Parallel()
	r, ids := eventWorld(t)
	const created = "User created,User created,Project created,Project created,"
	for _, tt := range []struct{ as, filter, want string }{
		{"admin", ``, created + "fleet,instance,run,job,placed,volume,gateway,replica,secret,preset,lent,foreign"},
		{"ann", ``, "User created,Project created,fleet,instance,run,job,placed,volume,gateway,replica,secret,preset,lent"},
		{"bob", ``, "User created,Project created,lent,foreign"},
		{"outsider", ``, ""},
		{"admin", `"target_projects":["$p"]`, "Project created"},
		{"admin", `"target_projects":["$p","$q"]`, "Project created,Project created"},
		{"admin", `"target_users":["$ann"]`, "User created"},
		{"bob", `"target_users":["$ann"]`, ""},
		{"admin", `"target_fleets":["$fleet"]`, "fleet"},
		{"admin", `"target_fleets":["$run"]`, ""},
		{"admin", `"target_instances":["$instance"]`, "instance,placed,lent"},
		{"bob", `"target_instances":["$instance"]`, "lent"},
		{"admin", `"target_runs":["$run"]`, "run"},
		{"admin", `"target_jobs":["$job","$qjob"]`, "job,placed,lent,foreign"},
		{"ann", `"target_jobs":["$job","$qjob"]`, "job,placed,lent"},
		{"admin", `"target_volumes":["$volume"]`, "volume"},
		{"admin", `"target_gateways":["$gateway"]`, "gateway"},
		{"admin", `"target_gateway_replicas":["$replica"]`, "replica"},
		{"admin", `"target_secrets":["$secret"]`, "secret"},
		{"admin", `"target_presets":["$preset"]`, "preset"},
		{"admin", `"within_projects":["$q"]`, "Project created,lent,foreign"},
		{"ann", `"within_projects":["$q"]`, "lent"},
		{"admin", `"within_fleets":["$fleet"]`, "fleet,instance,placed,lent"},
		{"admin", `"within_runs":["$run"]`, "run,job,placed"},
		{"admin", `"within_gateways":["$gateway"]`, "gateway,replica"},
		{"admin", `"include_target_types":["secret","volume"]`, "volume,secret"},
		// All conditions hold for the same target.
		{"admin", `"within_projects":["$p"],"include_target_types":["job"]`, "job,placed"},
		{"admin", `"within_projects":["$q"],"include_target_types":["instance"]`, ""},
		{"admin", `"target_instances":["$instance"],"within_projects":["$q"]`, ""},
		{"admin", `"target_instances":["$instance"],"within_projects":["$p"]`, "instance,placed,lent"},
		{"admin", `"actors":["$ann"]`, "Project created,fleet,run,volume,secret,preset"},
		{"admin", `"actors":[null]`, "instance,job,placed,replica,lent"},
		{"admin", `"actors":[null,"$admin"],"include_target_types":["gateway","gateway-replica"]`, "gateway,replica"},
		{"admin", `"target_projects":null,"within_runs":null,"actors":["$bob"]`, "Project created,foreign"},
	} {
		filter := tt.filter
		for name, id := range ids {
			filter = strings.ReplaceAll(filter, `$`+name+`"`, id+`"`)
		}
		if filter != "" {
			filter = "," + filter
		}
		body := `{"ascending":true` + filter + `}`
		got := strings.Join(names(t, r.request(http.MethodPost, "/api/events/list", r.tokenOf(tt.as), body).body, "message"), ",")
		if got != tt.want {
			t.Errorf("%s with %s:\n%s\nwant\n%s", tt.as, tt.filter, got, tt.want)
		}
	}
}

// TestEventShape has all targets of an event that shows one, and null for the
// system and what no project has.
func TestEventShape(t *testing.T) {
	t.Parallel()
	r, ids := eventWorld(t)
	list := decode[[]api.Event](t, r.request(http.MethodPost, "/api/events/list", r.tokenOf("bob"), `{"target_instances":["`+ids["instance"]+`"]}`).body)
	if len(list) != 1 || len(list[0].Targets) != 2 {
		t.Fatalf("%+v", list)
	}
	e := list[0]
	got := []string{}
	for _, x := range e.Targets {
		got = append(got, fmt.Sprintf("%s %s in %s deleted %v", x.Type, x.Name, *x.ProjectName, *x.IsProjectDeleted))
	}
	if diff := cmp.Diff([]string{"job qjob in q deleted false", "instance instance in p deleted false"}, got); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	if e.ActorUserID != nil || e.ActorUser != nil || e.IsActorUserDeleted != nil {
		t.Errorf("actor of the system: %+v", e)
	}
	r.run([]exchange{{"admin", "events/list", `{"target_users":["` + ids["ann"] + `"]}`, 200,
		`…"targets":[{"type":"user","project_id":null,"project_name":null,"is_project_deleted":null,"id":"*","name":"ann"}]`}})
}

func TestEventRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := `"` + uuid.NewString() + `"`
	many := strings.Repeat(id+",", 16) + id
	for body, want := range map[string]string{
		`{"target_runs":[]}`:                                        `"type":"too_short","loc":["body","target_runs"]`,
		`{"target_runs":[` + many + `]}`:                            `"type":"too_long","loc":["body","target_runs"]`,
		`{"actors":[]}`:                                             `"type":"too_short","loc":["body","actors"]`,
		`{"include_target_types":[]}`:                               `"type":"too_short","loc":["body","include_target_types"]`,
		`{"include_target_types":["run","x"]}`:                      `"type":"enum","loc":["body","include_target_types",1]`,
		`{"target_runs":[` + id + `],"target_jobs":[` + id + `]}`:   `At most one target_* filter can be set at a time. Got target_runs, target_jobs`,
		`{"within_runs":[` + id + `],"within_fleets":[` + id + `]}`: `At most one within_* filter can be set at a time. Got within_runs, within_fleets`,
		`{"actors":["x"]}`:                                          `"type":"uuid_parsing","loc":["body","actors",0]`,
		`{"limit":0}`:                                               `"type":"greater_than_equal","loc":["body","limit"]`,
		`{"limit":101}`:                                             `"type":"less_than_equal","loc":["body","limit"]`,
		`{"limit":null}`:                                            `"type":"int_type","loc":["body","limit"]`,
		``:                                                          `"type":"missing","loc":["body"]`,
	} {
		r.run([]exchange{{"admin", "events/list", body, 422, "…" + want}})
	}
}

// TestEventPages counts events, not targets.
func TestEventPages(t *testing.T) {
	t.Parallel()
	r, _ := eventWorld(t)
	var got []string
	cursor := ""
	for {
		page := decode[[]api.Event](t, r.request(http.MethodPost, "/api/events/list", adminToken, `{"limit":3,"ascending":true`+cursor+`}`).body)
		for _, e := range page {
			got = append(got, e.Message)
		}
		if len(page) < 3 {
			break
		}
		last := page[2]
		at, err := last.RecordedAt.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		cursor = `,"prev_recorded_at":` + string(at) + `,"prev_id":"` + last.ID + `"`
	}
	if len(got) != 16 {
		t.Errorf("%d events: %v", len(got), got)
	}
}

// TestEventsOfDeletedProject stay visible to those who were members.
func TestEventsOfDeletedProject(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.people("ann", "bob")
	r.run([]exchange{
		{"ann", "projects/create", `{"project_name":"p"}`, 200, `…p`},
		{"ann", "projects/delete", `{"projects_names":["p"]}`, 200, `null`},
		{"ann", "events/list", `{"include_target_types":["project"]}`, 200, `…"message":"Project deleted"`},
		{"bob", "events/list", `{"include_target_types":["project"]}`, 200, `[]`},
	})
}

// TestOldWorkingDir is what clients before 0.19.27 mean by no folder.
func TestOldWorkingDir(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for version, want := range map[string]string{"0.19.26": "/workflow", "0.19.27": "", "0.22.5": ""} {
		a := r.request(http.MethodPost, "/api/project/main/runs/get_plan", adminToken, `{"run_spec":{"run_name":"r1","configuration":`+
			`{"type":"task","image":"scratch","commands":["a"]},"profile":{"name":"x"}}}`, versionHeader, version)
		plan := decode[api.RunPlan](t, a.body)
		if got := deref(plan.EffectiveRunSpec.Configuration.Task.WorkingDir, ""); got != want || plan.RunSpec.Configuration.Task.WorkingDir != nil {
			t.Errorf("%s: %q, want %q", version, got, want)
		}
	}
}
