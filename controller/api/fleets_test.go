package api

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"dstack/controller/auth"
	"dstack/controller/store"
	"dstack/protocol/api"
)

const fleets = "/api/project/main/fleets/"

// sshKey is a new private key, encrypted if there is a passphrase.
func sshKey(t *testing.T, passphrase string) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block))
}

// aKey is a private key, the same each time.
var aKey = sync.OnceValue(func() string {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(block))
})

// fleetSpec is a specification with hosts, as JSON; more are further fields
// of the configuration.
func fleetSpec(t *testing.T, name, more string, hosts ...string) string {
	t.Helper()
	key, err := json.Marshal(aKey())
	if err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(hosts)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"configuration":{"type":"fleet","name":%q,%s"ssh_config":{"user":"ubuntu",
		"ssh_key":{"public":"PUB","private":%s},"hosts":%s}},"profile":{"name":"default"}}`, name, more, key, list)
}

func applyFleet(t *testing.T, r *rig, spec string, current *api.Fleet) api.Fleet {
	t.Helper()
	body := fmt.Sprintf(`{"plan":{"spec":%s,"current_resource":%s},"force":false}`, spec, jsonOf(t, current))
	return post[api.Fleet](r, fleets+"apply", body)
}

func TestFleetCreate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	spec := fleetSpec(t, "lab", "", "10.0.0.1", "10.0.0.2")
	plan := post[api.FleetPlan](r, fleets+"get_plan", `{"spec":`+spec+`}`)
	if plan.Action != "create" || plan.CurrentResource != nil {
		t.Errorf("plan: action %s, current %v", plan.Action, plan.CurrentResource)
	}
	if plan.Spec.Configuration.SSHConfig.SSHKey == nil {
		t.Error("the plan's spec lost the key: the CLI applies what it gets")
	}
	if plan.EffectiveSpec.Configuration.SSHConfig.SSHKey != nil {
		t.Error("the effective spec has a key")
	}
	fleet := applyFleet(t, r, spec, nil)
	var got []string
	for _, in := range fleet.Instances {
		got = append(got, fmt.Sprintf("%s %d %s %s", in.Name, in.InstanceNum, *in.Hostname, in.Status))
	}
	if diff := cmp.Diff([]string{"lab-0 0 10.0.0.1 pending", "lab-1 1 10.0.0.2 pending"}, got); diff != "" {
		t.Errorf("instances (-want +got):\n%s", diff)
	}
	if fleet.Status != api.FleetActive {
		t.Errorf("status %s", fleet.Status)
	}
	for _, path := range []string{fleets + "list", "/api/fleets/list", "/api/instances/list"} {
		if a := r.request(http.MethodPost, path, memberToken, "{}"); strings.Contains(a.body, "PRIVATE KEY") || a.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	var in store.Instance
	r.write(func(tx *store.Tx) error {
		list, err := tx.InstancesOfFleet(fleet.ID)
		in = list[0]
		return err
	})
	if in.Access.User != "ubuntu" || in.Access.Port != 22 || !strings.Contains(in.Access.Keys[0], "PRIVATE KEY") {
		t.Errorf("access %+v", in.Access)
	}
}

func TestFleetUpdate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	fleet := applyFleet(t, r, fleetSpec(t, "lab", "", "10.0.0.1", "10.0.0.2"), nil)
	moved := fleetSpec(t, "lab", "", "10.0.0.2", "10.0.0.3")

	plan := post[api.FleetPlan](r, fleets+"get_plan", `{"spec":`+moved+`}`)
	if plan.Action != "update" {
		t.Errorf("action %s, want update", plan.Action)
	}
	if msg, _ := refused(r, fleets+"apply", `{"plan":{"spec":`+moved+`},"force":false}`); msg != msgResourceChanged {
		t.Errorf("without current_resource: %s", msg)
	}
	got := applyFleet(t, r, moved, &fleet)
	var hosts []string
	for _, in := range got.Instances {
		hosts = append(hosts, fmt.Sprintf("%d %s %s", in.InstanceNum, *in.Hostname, in.Status))
	}
	if diff := cmp.Diff([]string{"0 10.0.0.1 terminating", "1 10.0.0.2 pending", "2 10.0.0.3 pending"}, hosts); diff != "" {
		t.Errorf("instances (-want +got):\n%s", diff)
	}
	if msg, _ := refused(r, fleets+"apply", fmt.Sprintf(`{"plan":{"spec":%s,"current_resource":%s},"force":false}`, moved, jsonOf(t, fleet))); msg != msgResourceChanged {
		t.Errorf("with an old current_resource: %s", msg)
	}
	placed := fleetSpec(t, "lab", `"placement":"cluster",`, "10.0.0.2", "10.0.0.3")
	if plan := post[api.FleetPlan](r, fleets+"get_plan", `{"spec":`+placed+`}`); plan.Action != "create" {
		t.Errorf("another placement: action %s, want create", plan.Action)
	}
	if msg, _ := refused(r, fleets+"apply", `{"plan":{"spec":`+placed+`},"force":true}`); !strings.HasPrefix(msg, "Failed to update fields ['placement']") {
		t.Errorf("another placement: %s", msg)
	}
}

func TestFleetRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	applyFleet(t, r, fleetSpec(t, "lab", "", "10.0.0.1"), nil)
	withKey := func(key string) string {
		return fmt.Sprintf(`{"configuration":{"type":"fleet","name":"f1","ssh_config":{"user":"u","ssh_key":{"public":"p","private":%q},"hosts":["h"]}},"profile":{"name":"default"}}`, key)
	}
	const head = `{"configuration":{"type":"fleet","name":"f1",`
	for name, tt := range map[string]struct{ spec, want string }{
		"host in another fleet":   {fleetSpec(t, "other", "", "10.0.0.1"), "Instances [10.0.0.1] are already assigned to a fleet."},
		"host twice":              {fleetSpec(t, "other", "", "h", "h"), "ssh_config.hosts: h is listed twice"},
		"bad name":                {fleetSpec(t, "Lab_1", "", "h"), "Resource name should match regex '^[a-z][a-z0-9-]{1,40}$'"},
		"name of our own":         {fleetSpec(t, "local", "", "h"), "The name 'local' is kept"},
		"cloud fields":            {fleetSpec(t, "f1", `"backends":["aws"],"tags":{},`, "h"), "SSH fleet configuration does not support the following fields: ['backends', 'tags']"},
		"nothing":                 {head + `"nodes":null},"profile":{"name":"default"}}`, "No ssh_config or nodes specified"},
		"both":                    {head + `"nodes":1,"ssh_config":{"user":"u","hosts":[]}},"profile":{"name":"default"}}`, "ssh_config and nodes are mutually exclusive"},
		"cloud fleet with env":    {head + `"nodes":1,"env":{"A":"b"}},"profile":{"name":"default"}}`, "Backend fleet configuration does not support the following fields: ['env']"},
		"too many nodes":          {head + `"nodes":100000},"profile":{"name":"default"}}`, "A fleet may be created with 1000 nodes at most, got 100000"},
		"resources of hosts":      {fleetSpec(t, "f1", `"resources":{"cpu":2},`, "h"), "SSH fleet configuration does not support the following fields: ['resources']"},
		"neither user nor key":    {head + `"ssh_config":{"hosts":["h"]}},"profile":{"name":"default"}}`, "No ssh key specified for host h"},
		"no key":                  {head + `"ssh_config":{"user":"u","hosts":["h"]}},"profile":{"name":"default"}}`, "No ssh key specified for host h"},
		"no key at all":           {withKey("nonsense"), "Unsupported key type. The key for host h"},
		"key with passphrase":     {withKey(sshKey(t, "secret")), "The ssh key for host h is encrypted with a passphrase"},
		"internal_ip of some":     {hostsSpec(t, "", `"h1",{"hostname":"h2","internal_ip":"10.0.0.9"}`), "internal_ip must be specified for all hosts"},
		"internal_ip and network": {hostsSpec(t, `"network":"10.0.0.0/8",`, `{"hostname":"h2","internal_ip":"10.0.0.9"}`), "internal_ip is mutually exclusive with network"},
	} {
		t.Run(name, func(t *testing.T) {
			for path, body := range map[string]string{"get_plan": `{"spec":%s}`, "apply": `{"plan":{"spec":%s},"force":true}`} {
				if msg, code := refused(r, fleets+path, fmt.Sprintf(body, tt.spec)); !strings.HasPrefix(msg, tt.want) || code != "error" {
					t.Errorf("%s: %s %q, want %q", path, code, msg, tt.want)
				}
			}
		})
	}
	if n := len(post[[]api.Fleet](r, fleets+"list", nil)); n != 1 {
		t.Errorf("%d fleets after refusals, want 1", n)
	}
}

// hostsSpec is a fleet with these hosts and fields of ssh_config, as JSON.
func hostsSpec(t *testing.T, more, hosts string) string {
	t.Helper()
	return fmt.Sprintf(`{"configuration":{"type":"fleet","name":"f1","ssh_config":{"user":"u",%s"ssh_key":{"public":"p","private":%q},"hosts":[%s]}},"profile":{"name":"default"}}`,
		more, sshKey(t, ""), hosts)
}

func TestFleetPermission(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(d *Deps) { d.Policy = auth.Policy{} })
	applyFleet(t, r, fleetSpec(t, "lab", "", "10.0.0.1"), nil)
	spec := fleetSpec(t, "mine", "", "10.0.0.2")
	for path, body := range map[string]string{
		"get_plan": `{"spec":` + spec + `}`, "apply": `{"plan":{"spec":` + spec + `},"force":false}`,
		"delete": `{"names":["lab"]}`, "delete_instances": `{"name":"lab","instance_nums":[0]}`,
	} {
		if a := r.request(http.MethodPost, fleets+path, memberToken, body); a.status != http.StatusForbidden {
			t.Errorf("%s: %d %s, want 403", path, a.status, a.body)
		}
	}
}

// TestFleetLocalIsForAdmins keeps members from taking the server's own machine.
func TestFleetLocalIsForAdmins(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for path, body := range map[string]string{"delete": `{"names":["local"]}`, "delete_instances": `{"name":"local","instance_nums":[0]}`} {
		if a := r.request(http.MethodPost, fleets+path, memberToken, body); a.status != http.StatusForbidden {
			t.Errorf("%s: %d %s, want 403", path, a.status, a.body)
		}
	}
	post[any](r, fleets+"delete", `{"names":["local"]}`)
}

func TestFleetGetAndDelete(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	lab := applyFleet(t, r, fleetSpec(t, "lab", "", "10.0.0.1", "10.0.0.2"), nil)
	if _, code := refused(r, fleets+"get", `{"name":"none"}`); code != "resource_not_exists" {
		t.Errorf("missing fleet: code %s", code)
	}
	refused(r, fleets+"get", `{}`)
	post[any](r, fleets+"delete_instances", `{"name":"none","instance_nums":[]}`)
	post[any](r, fleets+"delete_instances", `{"name":"lab","instance_nums":[1,7]}`)
	got := post[api.Fleet](r, fleets+"get", `{"id":"`+strings.ReplaceAll(lab.ID, "-", "")+`"}`)
	if got.Instances[0].Status != api.InstancePending || got.Instances[1].Status != api.InstanceTerminating {
		t.Errorf("instances %s, %s", got.Instances[0].Status, got.Instances[1].Status)
	}
	post[any](r, fleets+"delete", `{"names":["lab","none"]}`)
	got = post[api.Fleet](r, fleets+"get", `{"name":"lab"}`)
	if got.Status != api.FleetTerminating || *got.Instances[0].TerminationReason != "terminated_by_user" {
		t.Errorf("fleet %s, reason %v", got.Status, got.Instances[0].TerminationReason)
	}
	if msg, _ := refused(r, fleets+"apply", `{"plan":{"spec":`+fleetSpec(t, "lab", "", "10.0.0.1")+`},"force":true}`); !strings.Contains(msg, "being deleted") {
		t.Errorf("apply on a fleet that is being deleted: %s", msg)
	}
}

func TestInstances(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	fleet := applyFleet(t, r, fleetSpec(t, "lab", "", "10.0.0.1", "10.0.0.2"), nil)
	list := func(token, body string) []string {
		var out []api.Instance
		a := r.request(http.MethodPost, "/api/instances/list", token, body)
		if err := json.Unmarshal([]byte(a.body), &out); err != nil {
			t.Fatalf("%v in %s", err, a.body)
		}
		var names []string
		for _, in := range out {
			names = append(names, in.Name)
		}
		slices.Sort(names)
		return names
	}
	both := []string{"lab-0", "lab-1"}
	for name, tt := range map[string]struct {
		token, body string
		want        []string
	}{
		"all":             {adminToken, `{}`, both},
		"own projects":    {memberToken, `{}`, both},
		"outsider":        {outsiderToken, `{}`, nil},
		"outsider, named": {outsiderToken, `{"project_names":["main"]}`, nil},
		"by project":      {memberToken, `{"project_names":["main","none"]}`, both},
		"other project":   {memberToken, `{"project_names":["none"]}`, nil},
		"by fleet":        {memberToken, `{"fleet_ids":["` + fleet.ID + `"]}`, both},
		"active":          {memberToken, `{"only_active":true}`, nil},
		"no limit":        {memberToken, `{"limit":-1}`, both},
		"limit 0":         {memberToken, `{"limit":0}`, nil},
	} {
		if diff := cmp.Diff(tt.want, list(tt.token, tt.body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	in := post[api.Instance](r, "/api/project/main/instances/get", `{"id":"`+fleet.Instances[1].ID+`"}`)
	if in.Name != "lab-1" || *in.FleetName != "lab" || in.ProjectName != "main" {
		t.Errorf("%+v", in)
	}
	if _, code := refused(r, "/api/project/main/instances/get", `{"id":"`+fleet.ID+`"}`); code != "resource_not_exists" {
		t.Errorf("code %s", code)
	}
}
