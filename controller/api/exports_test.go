package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// lender is a rig whose project "lab" of user ann has SSH fleets gpu and cpu,
// a cloud fleet, a fleet that was deleted, and a gateway; bob owns project
// team, cat project other.
func lender(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.people("ann", "bob", "cat")
	r.run([]exchange{
		{"ann", "projects/create", `{"project_name":"lab"}`, 200, `…lab`},
		{"bob", "projects/create", `{"project_name":"team"}`, 200, `…team`},
		{"cat", "projects/create", `{"project_name":"other"}`, 200, `…other`},
		{"bob", "projects/team/add_members", `{"members":[{"username":"ann","project_role":"admin"}]}`, 200, `…ann`},
	})
	for _, name := range []string{"gpu", "cpu"} {
		r.fleet(name, true)
	}
	r.fleet("cloud", false)
	gone := r.fleet("gone", true)
	r.write(func(tx *store.Tx) error {
		gone.Deleted = true
		if err := tx.UpdateFleet(&gone); err != nil {
			return err
		}
		return tx.InsertGateway(&store.Gateway{ID: uuid.NewString(), ProjectID: gone.ProjectID, Name: "gate", Status: api.GatewayRunning, CreatedAt: r.now()})
	})
	return r
}

// fleet adds a fleet with one idle instance to project lab.
func (r *rig) fleet(name string, ssh bool) store.Fleet {
	r.t.Helper()
	var f store.Fleet
	r.write(func(tx *store.Tx) error {
		p, err := tx.ProjectByName("lab")
		if err != nil {
			return err
		}
		f = store.Fleet{ID: uuid.NewString(), ProjectID: p.ID, Name: name, Status: api.FleetActive, CreatedAt: r.now()}
		f.Spec.Configuration = config.Fleet{Type: config.TypeFleet, Name: &name}
		if ssh {
			f.Spec.Configuration.SSHConfig = &config.SSHParams{Hosts: []config.SSHHost{{Hostname: name}}}
		}
		if err := tx.InsertFleet(&f); err != nil {
			return err
		}
		return tx.InsertInstance(&store.Instance{
			ID: uuid.NewString(), ProjectID: p.ID, FleetID: f.ID, Name: name + "-0", Hostname: name, Status: api.InstanceIdle,
			CreatedAt: r.now(), TotalBlocks: 1, Backend: "remote", Region: "remote",
		})
	})
	return f
}

func TestExports(t *testing.T) {
	t.Parallel()
	r := lender(t)
	const e, lab = "project/lab/exports/", ",\"exported_gateways\":[]}"
	missing := func(what, name string) string {
		return `{"detail":[{"msg":"` + what + ` '` + name + `' not found in project 'lab'","code":"resource_not_exists"}]}`
	}
	named := func(name string) string { return business("'" + name + "' is named more than once") }
	r.run([]exchange{
		{"ann", e + "list", ``, 200, `{"exports":[],"warnings":[]}`},
		{"ann", e + "create", `{"name":"E_1"}`, 400, `…Resource name should match regex`},
		{"ann", e + "create", `{"name":"empty"}`, 200, `{"id":"*","name":"empty","is_global":false,"imports":[],"exported_fleets":[]` + lab},
		{"ann", e + "create", `{"name":"empty"}`, 400, resourceExists},
		{"bob", e + "create", `{"name":"e1"}`, 403, accessDenied},
		{"ann", e + "create", `{"name":"e1","is_global":true}`, 403, denied("only global admins can make exports global")},
		{"admin", e + "create", `{"name":"e1","is_global":true,"importer_projects":["team"]}`, 400, `…A global export is imported by all projects`},
		{"ann", e + "create", `{"name":"e1","importer_projects":["none"]}`, 400, business("Project 'none' does not exist, or you are not its admin")},
		{"ann", e + "create", `{"name":"e1","importer_projects":["other"]}`, 400, business("Project 'other' does not exist, or you are not its admin")},
		{"ann", e + "create", `{"name":"e1","importer_projects":["LAB"]}`, 400, business("Project 'lab' cannot import its own export")},
		{"ann", e + "create", `{"name":"e1","importer_projects":["team","TEAM"]}`, 400, named("TEAM")},
		{"ann", e + "create", `{"name":"e1","exported_fleets":["none"]}`, 400, missing("Fleet", "none")},
		{"ann", e + "create", `{"name":"e1","exported_fleets":["gone"]}`, 400, missing("Fleet", "gone")},
		{"ann", e + "create", `{"name":"e1","exported_fleets":["cloud"]}`, 400, `…only SSH fleets can be exported`},
		{"ann", e + "create", `{"name":"e1","exported_fleets":["gpu","GPU"]}`, 400, named("GPU")},
		{"ann", e + "create", `{"name":"e1","exported_gateways":["none"]}`, 400, missing("Gateway", "none")},
		{"ann", e + "list", ``, 200, `…{"exports":[{"id":"*","name":"empty"`},
		{"ann", e + "create", `{"name":"e1","importer_projects":["TEAM"],"exported_fleets":["GPU"],"exported_gateways":["gate"]}`, 200,
			`{"id":"*","name":"e1","is_global":false,"imports":[{"project_name":"team"}],"exported_fleets":[{"id":"*","name":"gpu"}],"exported_gateways":[{"id":"*","name":"gate"}]}`},

		{"ann", e + "update", `{"name":"none","add_exported_fleets":["cpu"]}`, 400, missing("Export", "none")},
		{"ann", e + "update", `{"name":"e1"}`, 400, business("No changes specified")},
		{"ann", e + "update", `{"name":"e1","add_exported_fleets":["gpu"]}`, 400, business("Fleet 'gpu' is exported already")},
		{"ann", e + "update", `{"name":"e1","remove_exported_fleets":["cpu"]}`, 400, business("Fleet 'cpu' is not exported")},
		{"ann", e + "update", `{"name":"e1","add_exported_fleets":["cpu"],"remove_exported_fleets":["CPU"]}`, 400, named("CPU")},
		{"ann", e + "update", `{"name":"e1","add_importer_projects":["team"]}`, 400, business("Project 'team' imports 'e1' already")},
		{"ann", e + "update", `{"name":"e1","remove_importer_projects":["other"]}`, 400, business("Project 'other' does not import 'e1'")},
		{"ann", e + "update", `{"name":"e1","remove_importer_projects":["none"]}`, 400, business("Project 'none' does not import 'e1'")},
		{"admin", e + "update", `{"name":"e1","set_global":true,"unset_global":true}`, 400, `…exclude each other`},
		{"ann", e + "update", `{"name":"e1","unset_global":true}`, 400, business("Export 'e1' is not global")},
		{"admin", e + "update", `{"name":"e1","set_global":true,"add_importer_projects":["other"]}`, 400, `…cannot be changed together`},
		{"ann", e + "update", `{"name":"E1","add_exported_fleets":["Cpu"],"remove_exported_fleets":["gpu"],"remove_exported_gateways":["gate"]}`, 200,
			`{"id":"*","name":"e1","is_global":false,"imports":[{"project_name":"team"}],"exported_fleets":[{"id":"*","name":"cpu"}]` + lab},
		{"admin", e + "update", `{"name":"e1","add_importer_projects":["other"],"remove_importer_projects":["team"]}`, 200, `…"imports":[{"project_name":"other"}]`},

		{"ann", e + "update", `{"name":"e1","set_global":true}`, 403, denied("only global admins can make exports global")},
		{"admin", e + "update", `{"name":"e1","set_global":true}`, 200, `…"is_global":true,"imports":[{"project_name":"other"},{"project_name":"main"},{"project_name":"team"}]`},
		{"admin", e + "update", `{"name":"e1","set_global":true}`, 400, business("Export 'e1' is already global")},
		{"admin", e + "update", `{"name":"e1","add_importer_projects":["team"]}`, 400, `…it is imported by all projects`},
		{"ann", e + "update", `{"name":"e1","remove_importer_projects":["team"]}`, 400, `…it is imported by all projects`},
		{"bob", "project/team/imports/delete", `{"export_project_name":"lab","export_name":"e1"}`, 400, `…is global`},
		{"cat", "projects/create", `{"project_name":"later"}`, 200, `…later`},
		{"cat", "project/later/imports/list", ``, 200, `…"name":"e1","project_name":"lab","exported_fleets":[{"id":"*","name":"cpu"}]`},
		{"ann", e + "update", `{"name":"e1","unset_global":true}`, 200, `…"is_global":false,"imports":[{"project_name":"other"},{"project_name":"main"},{"project_name":"team"},{"project_name":"later"}]`},

		{"ann", e + "delete", `{"name":"none"}`, 400, missing("Export", "none")},
		{"bob", e + "delete", `{"name":"e1"}`, 403, accessDenied},
		{"ann", e + "delete", `{"name":"e1"}`, 200, `null`},
		{"cat", "project/later/imports/list", ``, 200, `{"imports":[],"warnings":[]}`},
	})
	old := r.request(http.MethodPost, "/api/"+e+"list", adminToken, "", versionHeader, "0.21.9")
	if got := plainAnswer(old.body); got != `[{"id":"*","name":"empty","is_global":false,"imports":[],"exported_fleets":[]`+lab+`]` {
		t.Errorf("an old client gets %s", got)
	}
}

// TestRecreatedFleet is another fleet than the exported one of its name.
func TestRecreatedFleet(t *testing.T) {
	t.Parallel()
	r := lender(t)
	r.run([]exchange{{"ann", "project/lab/exports/create", `{"name":"e1","exported_fleets":["gpu","cpu"]}`, 200, `…gpu`}})
	r.write(func(tx *store.Tx) error {
		p, err := tx.ProjectByName("lab")
		if err != nil {
			return err
		}
		f, err := tx.FleetByName(p.ID, "gpu")
		if err != nil {
			return err
		}
		f.Deleted = true
		return tx.UpdateFleet(&f)
	})
	r.fleet("gpu", true)
	r.run([]exchange{
		{"ann", "project/lab/exports/list", ``, 200, `…"exported_fleets":[{"id":"*","name":"cpu"}]`},
		{"ann", "project/lab/exports/update", `{"name":"e1","remove_exported_fleets":["gpu"]}`, 400, business("Fleet 'gpu' is not exported")},
		{"ann", "project/lab/exports/update", `{"name":"e1","add_exported_fleets":["gpu"]}`, 200, `…"exported_fleets":[{"id":"*","name":"cpu"},{"id":"*","name":"gpu"}]`},
	})
}

// TestImports shows what is imported, and who sees and uses it.
func TestImports(t *testing.T) {
	t.Parallel()
	r := lender(t)
	r.people("dan")
	missing := `{"detail":[{"msg":"Import 'lab/none' not found in project 'team'","code":"resource_not_exists"}]}`
	r.run([]exchange{
		{"bob", "projects/team/add_members", `{"members":[{"username":"dan","project_role":"user"}]}`, 200, `…dan`},
		{"bob", "projects/list_only_no_fleets", ``, 200, `…team`},
		// Twice: once more changes nothing in any list.
		{"ann", "project/lab/exports/create", `{"name":"e1","importer_projects":["team"],"exported_fleets":["gpu"],"exported_gateways":["gate"]}`, 200, `…team`},
		{"ann", "project/lab/exports/create", `{"name":"e2","importer_projects":["team"],"exported_fleets":["gpu"]}`, 200, `…team`},
		{"bob", "projects/list_only_no_fleets", ``, 200, `[]`},
		{"dan", "project/team/imports/list", ``, 200, `{"imports":[` +
			`{"id":"*","export":{"id":"*","name":"e2","project_name":"lab","exported_fleets":[{"id":"*","name":"gpu"}],"exported_gateways":[]}},` +
			`{"id":"*","export":{"id":"*","name":"e1","project_name":"lab","exported_fleets":[{"id":"*","name":"gpu"}],"exported_gateways":[{"id":"*","name":"gate"}]}}],"warnings":[]}`},
		{"ann", "project/lab/imports/list", ``, 200, `{"imports":[],"warnings":[]}`},
		{"dan", "project/team/fleets/list", ``, 200, `[]`},
		{"dan", "fleets/list", `{}`, 200, `[]`},
		{"dan", "instances/list", `{}`, 200, `[]`},
		{"dan", "project/lab/fleets/get", `{"name":"gpu"}`, 200, `…"name":"gpu","project_name":"lab"`},
		{"dan", "project/lab/gateways/get", `{"name":"gate"}`, 200, `…"name":"gate"`},
		{"dan", "project/lab/fleets/get", `{"name":"cpu"}`, 403, accessDenied},
		{"dan", "project/lab/fleets/get", `{"name":"none"}`, 403, accessDenied},
		{"dan", "project/lab/fleets/get", `{}`, 400, business("name or id must be specified")},
		{"dan", "project/lab/fleets/get", `{"x":1}`, 422, `…extra_forbidden`},
		{"dan", "project/lab/fleets/delete", `{"names":["gpu"]}`, 403, accessDenied},
		{"cat", "project/lab/fleets/get", `{"name":"gpu"}`, 403, accessDenied},
		{"cat", "project/lab/gateways/get", `{"name":"gate"}`, 403, accessDenied},
		{"admin", "project/lab/fleets/get", `{"name":"cpu"}`, 200, `…"name":"cpu"`},
		{"ann", "project/lab/fleets/get", `{"name":"none"}`, 400, resourceNotFound},
		// Visitors of a public project see what is its own.
		{"bob", "projects/team/update", `{"is_public":true}`, 200, `…team`},
		{"cat", "project/team/gateways/list", `{"include_imported":true}`, 200, `[]`},
		{"dan", "project/team/gateways/list", `{"include_imported":true}`, 200, `…"name":"gate"`},
		{"bob", "projects/team/update", `{"is_public":false}`, 200, `…team`},
	})
	for _, tt := range []struct{ as, path, body, want string }{
		{"dan", "fleets/list", `{"include_imported":true}`, "gpu"},
		{"dan", "fleets/list", `{"include_imported":true,"project_name":"team"}`, "gpu"},
		{"dan", "project/team/fleets/list", `{"include_imported":true}`, "gpu"},
		{"dan", "instances/list", `{"include_imported":true}`, "gpu-0"},
		{"dan", "instances/list", `{"include_imported":true,"project_names":["lab"]}`, ""},
		{"ann", "fleets/list", `{"include_imported":true,"only_active":true}`, "cloud cpu gpu"},
		{"admin", "fleets/list", `{"project_name":"team","include_imported":true}`, "gpu"},
		{"admin", "fleets/list", `{"project_name":"team"}`, ""},
	} {
		got := strings.Join(names(t, r.request(http.MethodPost, "/api/"+tt.path, r.tokenOf(tt.as), tt.body).body, "name"), " ")
		if got != tt.want {
			t.Errorf("%s as %s with %s: %q, want %q", tt.path, tt.as, tt.body, got, tt.want)
		}
	}
	instance := decode[[]api.Instance](t, r.request(http.MethodPost, "/api/instances/list", r.tokenOf("dan"), `{"include_imported":true}`).body)[0].ID
	r.run([]exchange{
		{"dan", "project/lab/instances/get", `{"id":"` + instance + `"}`, 200, `…gpu-0`},
		{"cat", "project/lab/instances/get", `{"id":"` + instance + `"}`, 403, accessDenied},
		{"cat", "project/lab/instances/get", `{"id":"` + uuid.NewString() + `"}`, 403, accessDenied},
		{"ann", "project/lab/instances/get", `{"id":"` + uuid.NewString() + `"}`, 400, resourceNotFound},
		{"bob", "project/team/instances/get", `{"id":"` + instance + `"}`, 400, resourceNotFound},

		{"dan", "project/team/imports/delete", `{"export_project_name":"lab","export_name":"e1"}`, 403, accessDenied},
		{"bob", "project/team/imports/delete", `{"export_project_name":"lab","export_name":"none"}`, 400, missing},
		{"bob", "project/team/imports/delete", `{"export_project_name":"none","export_name":"e1"}`, 400, `…Import 'none/e1' not found in project 'team'`},
		{"bob", "project/team/imports/delete", `{"export_project_name":"LAB","export_name":"E1"}`, 200, `null`},
		{"dan", "project/lab/fleets/get", `{"name":"gpu"}`, 200, `…gpu`},
		{"bob", "project/team/imports/delete", `{"export_project_name":"lab","export_name":"e2"}`, 200, `null`},
		{"dan", "project/lab/fleets/get", `{"name":"gpu"}`, 403, accessDenied},
		{"bob", "projects/list_only_no_fleets", ``, 200, `…team`},
	})
}

// TestImportedOffers plans with an imported fleet, by its whole name or none.
func TestImportedOffers(t *testing.T) {
	t.Parallel()
	r := lender(t)
	r.run([]exchange{{"ann", "project/lab/exports/create", `{"name":"e1","importer_projects":["team"],"exported_fleets":["gpu"]}`, 200, `…team`}})
	r.write(func(tx *store.Tx) error {
		list, err := tx.InstancesOnHosts([]string{"gpu"})
		if err != nil {
			return err
		}
		list[0].Type = &api.InstanceType{Resources: api.Resources{CPUs: 64, MemoryMiB: 1 << 20, Disk: api.Disk{SizeMiB: 1 << 20}, CPUArch: new("x86")}}
		return tx.UpdateInstance(&list[0])
	})
	for fleets, want := range map[string]int{`null`: 1, `["lab/gpu"]`: 1, `["gpu"]`: 0, `["team/gpu"]`: 0} {
		body := `{"run_spec":{"run_name":"r1","configuration":{"type":"task","image":"scratch","commands":["a"],"fleets":` + fleets + `}}}`
		plan := decode[api.RunPlan](t, r.request(http.MethodPost, "/api/project/team/runs/get_plan", r.tokenOf("bob"), body).body)
		if len(plan.JobPlans) != 1 || plan.JobPlans[0].TotalOffers != want {
			t.Errorf("fleets %s: %+v, want %d offers", fleets, plan.JobPlans, want)
		}
	}
}

// TestProjectDeletionEndsLending deletes the rows on both sides.
func TestProjectDeletionEndsLending(t *testing.T) {
	t.Parallel()
	r := lender(t)
	r.run([]exchange{
		{"bob", "project/team/exports/create", `{"name":"e9"}`, 200, `…e9`},
		{"admin", "project/team/exports/update", `{"name":"e9","add_importer_projects":["other"]}`, 200, `…other`},
		{"admin", "project/lab/exports/create", `{"name":"e1","importer_projects":["team","other"]}`, 200, `…team`},
		{"bob", "projects/delete", `{"projects_names":["team"]}`, 200, `null`},
		{"cat", "project/other/imports/list", ``, 200, `…"name":"e1"`},
		{"ann", "project/lab/exports/list", ``, 200, `…"imports":[{"project_name":"other"}]`},
	})
	if got := r.request(http.MethodPost, "/api/project/other/imports/list", r.tokenOf("cat"), "").body; strings.Contains(got, `"e9"`) {
		t.Errorf("an import of a deleted project: %s", got)
	}
}

// TestLendingEvents tells exporters and importers what was done.
func TestLendingEvents(t *testing.T) {
	t.Parallel()
	r := lender(t)
	r.run([]exchange{
		{"ann", "project/lab/exports/create", `{"name":"e1","importer_projects":["team"]}`, 200, `…team`},
		{"ann", "project/lab/exports/update", `{"name":"e1","add_exported_fleets":["gpu"]}`, 200, `…gpu`},
		{"bob", "project/team/imports/delete", `{"export_project_name":"lab","export_name":"e1"}`, 200, `null`},
		{"ann", "project/lab/exports/delete", `{"name":"e1"}`, 200, `null`},
	})
	want := []string{
		"ann: Export e1 created → project lab, project team",
		"ann: Export e1 updated. Changed fields: exported_fleets → project lab",
		"bob: Import lab/e1 deleted → project team",
		"ann: Export e1 deleted → project lab",
	}
	all := r.messages()
	if diff := cmp.Diff(want, all[len(all)-4:]); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
