package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/backends"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

const backendsPath = "/api/project/main/backends/"

const (
	awsBody = `{"type":"aws","regions":["eu-west-1"],"tags":{"a":"b"},"creds":{"type":"access_key","access_key":"AKIA","secret_key":"hush"}}`
	awsEcho = `{"type":"aws","regions":["eu-west-1"],"vpc_name":null,"vpc_ids":null,"default_vpcs":null,"public_ips":null,"iam_instance_profile":null,` +
		`"tags":{"a":"b"},"os_images":null,"experimental_instance_types":null,"creds":{"type":"access_key","access_key":"AKIA","secret_key":"hush"}}`
)

func TestBackendTypes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.request(http.MethodPost, "/api/backends/list_types", "", "")
	want := `["amddevcloud","aws","azure","cloudrift","crusoe","datacrunch","daytona","digitalocean","gcp","hotaisle","jarvislabs","kubernetes",` +
		`"lambda","lium","nebius","oci","runpod","slurm","seeweb","vastai","verda","vultr"]`
	if a.body != want {
		t.Errorf("types %s", a.body)
	}
}

func TestBackendLife(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	send := func(path, body string) answer {
		t.Helper()
		return r.request(http.MethodPost, backendsPath+path, adminToken, body)
	}
	if _, code := refused(r, backendsPath+"update", awsBody); code != "resource_not_exists" {
		t.Errorf("update of none: %s", code)
	}
	if a := send("create", awsBody); a.status != 200 || a.body != awsEcho {
		t.Errorf("create: %d %s", a.status, a.body)
	}
	if msg, code := refused(r, backendsPath+"create", awsBody); code != "resource_exists" || msg != "Resource exists" {
		t.Errorf("create again: %s %s", code, msg)
	}
	if a := send("aws/config_info", ""); a.body != awsEcho {
		t.Errorf("config_info: %s", a.body)
	}
	yaml := post[api.BackendInfoYAML](r, backendsPath+"aws/get_yaml", nil)
	wantYAML := "type: aws\nregions:\n- eu-west-1\ntags:\n  a: b\ncreds:\n  type: access_key\n  access_key: AKIA\n  secret_key: hush\n"
	if diff := cmp.Diff(api.BackendInfoYAML{Name: "aws", ConfigYAML: wantYAML}, yaml); diff != "" {
		t.Errorf("get_yaml (-want +got):\n%s", diff)
	}
	if a := send("update_yaml", jsonOf(t, api.BackendYAMLRequest{ConfigYAML: strings.Replace(yaml.ConfigYAML, "eu-west-1", "us-east-1", 1)})); a.body != "null" {
		t.Errorf("update_yaml: %d %s", a.status, a.body)
	}
	project := r.request(http.MethodPost, "/api/projects/main/get", memberToken, "")
	if !strings.Contains(project.body, `"backends":[{"name":"aws","config":{`) || !strings.Contains(project.body, `"us-east-1"`) || strings.Contains(project.body, "creds") {
		t.Errorf("project: %s", project.body)
	}
	var row store.Backend
	r.write(func(tx *store.Tx) (err error) {
		row, err = tx.Backend(r.main.ID, "aws")
		return err
	})
	if !strings.Contains(string(row.Spec), `"secret_key":"hush"`) {
		t.Errorf("stored %s", row.Spec)
	}
	post[any](r, backendsPath+"delete", `{"backends_names":["aws","gcp"]}`)
	if _, code := refused(r, backendsPath+"aws/config_info", nil); code != "resource_not_exists" {
		t.Errorf("after its deletion: %s", code)
	}
}

func TestBackendRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	kube := func(more, data string) string {
		return fmt.Sprintf(`{"type":"kubernetes","kubeconfig":{"filename":"","data":%q}%s}`, data, more)
	}
	for name, tt := range map[string]struct{ path, body, code, want string }{
		"gone":          {"create", `{"type":"cudo","project_id":"p","creds":{"type":"api_key","api_key":"k"}}`, "backend_not_available", "Backend not available"},
		"namespace":     {"create", kube(`,"contexts":["a"],"namespace":"n"`, "a: b"), "error", "namespace must not be set if contexts is set"},
		"contexts":      {"create", kube(`,"contexts":["a","a"]`, "a: b"), "error", "duplicate contexts: a"},
		"kubeconfig":    {"create", kube(``, "a: ["), "error", "The kubeconfig is not YAML"},
		"syntax":        {"create_yaml", `{"config_yaml":"a: ["}`, "error", "Error parsing YAML"},
		"unknown type":  {"create_yaml", `{"config_yaml":"type: nope"}`, "error", "1:"},
		"unknown field": {"update_yaml", `{"config_yaml":"type: aws\ncreds: {type: default, x: 1}"}`, "error", "2:"},
		"no such one":   {"gcp/get_yaml", ``, "resource_not_exists", "Resource not found"},
		"hosted":        {"delete", `{"backends_names":["dstack"]}`, "error", "Cannot delete dstack backend"},
	} {
		if msg, code := refused(r, backendsPath+tt.path, tt.body); code != tt.code || !strings.HasPrefix(msg, tt.want) {
			t.Errorf("%s: %s %q", name, code, msg)
		}
	}
	for name, tt := range map[string]struct{ path, body, loc string }{
		"type":    {"create", `{"type":"nope"}`, `"loc":["body"]`},
		"creds":   {"create", `{"type":"aws"}`, `"loc":["body","aws","creds"]`},
		"in path": {"nope/config_info", ``, `"loc":["path","backend_name"]`},
		"in list": {"delete", `{"backends_names":["aws","nope"]}`, `"loc":["body","backends_names",1]`},
	} {
		if a := r.request(http.MethodPost, backendsPath+tt.path, adminToken, tt.body); a.status != 422 || !strings.Contains(a.body, tt.loc) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	for _, path := range []string{"create", "update", "delete", "create_yaml", "update_yaml", "aws/config_info", "aws/get_yaml"} {
		if a := r.request(http.MethodPost, backendsPath+path, memberToken, `{}`); a.status != http.StatusForbidden {
			t.Errorf("%s as member: %d %s", path, a.status, a.body)
		}
	}
}

// TestBackendInUse keeps what has something running.
func TestBackendInUse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	withBackend(r, "aws")
	fleet := applyFleet(t, r, nodesSpec("pool", "1", ""), nil)
	vol := createVolume(r, `"name":"v1","backend":"aws","region":"r","size":1`)
	set := func(backend string, data *api.VolumeProvisioningData) {
		r.write(func(tx *store.Tx) error {
			in, err := tx.Instance(fleet.Instances[0].ID)
			if err != nil {
				return err
			}
			v, err := tx.Volume(vol.ID)
			if err != nil {
				return err
			}
			in.Backend, in.Status, v.Provisioning = backend, api.InstanceIdle, data
			if err := tx.UpdateInstance(&in); err != nil {
				return err
			}
			return tx.UpdateVolume(&v)
		})
	}
	const body = `{"backends_names":["aws"]}`
	set("aws", nil)
	if msg, _ := refused(r, backendsPath+"delete", body); msg != "Backend aws has active instances. Delete instances before deleting the backend." {
		t.Errorf("with an instance: %s", msg)
	}
	set("", &api.VolumeProvisioningData{VolumeID: "x"})
	if msg, _ := refused(r, backendsPath+"delete", body); msg != "Backend aws has active volumes. Delete volumes before deleting the backend." {
		t.Errorf("with a volume: %s", msg)
	}
	set("", nil)
	post[any](r, backendsPath+"delete", body)
}

// picky is a driver that takes no credentials.
type picky struct{}

func (picky) Validate(context.Context, config.Backend) error {
	return &backends.Invalid{Message: "Invalid credentials", Credentials: true, Field: []string{"creds", "access_key"}}
}

func (picky) Open(context.Context, config.Backend) (backends.Backend, error) {
	return nil, errors.New("nobody opens it")
}

func TestBackendDriver(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(d *Deps) {
		d.Backends = backends.Clouds{Drivers: map[string]backends.Driver{"aws": picky{}}, NoDefaultCreds: true}
	})
	a := r.request(http.MethodPost, backendsPath+"create", adminToken, awsBody)
	if want := `{"detail":[{"msg":"Invalid credentials","code":"invalid_credentials","fields":["creds","access_key"]}]}`; a.status != 400 || a.body != want {
		t.Errorf("%d %s", a.status, a.body)
	}
	a = r.request(http.MethodPost, backendsPath+"create", adminToken, `{"type":"gcp","project_id":"p","creds":{"type":"default"}}`)
	if want := `{"detail":[{"msg":"Invalid credentials","code":"invalid_credentials","fields":["creds"]}]}`; a.status != 400 || a.body != want {
		t.Errorf("default credentials: %d %s", a.status, a.body)
	}
	var types []string
	r.write(func(tx *store.Tx) (err error) {
		types, err = tx.BackendTypes(r.main.ID)
		return err
	})
	if len(types) > 0 {
		t.Errorf("stored %v", types)
	}
}

// TestBackendYAMLReadsBack writes configurations and reads them again.
func TestBackendYAMLReadsBack(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		awsBody,
		`{"type":"kubernetes","kubeconfig":{"filename":"","data":"a: b\nc: 'd'\n"},"contexts":["x",{"name":"yes","proxy_jump":{"port":22}}]}`,
		`{"type":"slurm","clusters":[{"name":"123","hostname":"h","user":"u: v","private_key":{"path":"","content":"k"},"gpu_partitions":[{"gpu":"H100:80GB","partitions":["p","null"]}]}]}`,
		`{"type":"vastai","creds":{"type":"api_key","api_key":"#x 'y' ü"},"regions":[]}`,
	} {
		b, err := config.DecodeBackend([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		text, err := backends.Clouds{}.YAML(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := config.DecodeBackendYAML("", []byte(text), nil)
		if err != nil {
			t.Errorf("%v in\n%s", err, text)
			continue
		}
		want, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), strings.TrimSpace(jsonOf(t, again))); diff != "" {
			t.Errorf("(-want +got):\n%s\n%s", diff, text)
		}
	}
}

// possessive is an account that is never given up.
type possessive struct{}

func (possessive) Keeps(context.Context, string, config.Backend) error {
	return &backends.Invalid{Message: "machine i-1 would be lost"}
}

func TestBackendWithMachines(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(d *Deps) { d.Accounts = possessive{} })
	if a := r.request(http.MethodPost, backendsPath+"create", adminToken, awsBody); a.status != 200 {
		t.Errorf("a new one: %d %s", a.status, a.body)
	}
	a := r.request(http.MethodPost, backendsPath+"update", adminToken, awsBody)
	if a.status != 400 || !strings.Contains(a.body, "machine i-1 would be lost") {
		t.Errorf("another configuration: %d %s", a.status, a.body)
	}
}
