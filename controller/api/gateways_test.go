package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/store"
	"dstack/protocol/api"
)

const gateways = "/api/project/main/gateways/"

// withBackend gives project main a backend.
func withBackend(r *rig, types ...string) {
	r.t.Helper()
	r.write(func(tx *store.Tx) error {
		for _, typ := range types {
			spec := json.RawMessage(fmt.Sprintf(`{"type":%q}`, typ))
			if err := tx.InsertBackend(&store.Backend{ID: "backend-" + typ, ProjectID: r.main.ID, Type: typ, Spec: spec}); err != nil {
				return err
			}
		}
		return nil
	})
}

// gatewayConf is a configuration as JSON; more are further fields.
func gatewayConf(name, more string) string {
	return fmt.Sprintf(`{"type":"gateway","name":%q,"backend":"aws","region":"eu","domain":"*.example.com"%s}`, name, more)
}

func gatewayApply(conf string, force bool, current any) string {
	seen, err := json.Marshal(current)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf(`{"plan":{"spec":{"configuration":%s},"current_resource":%s},"force":%t}`, conf, seen, force)
}

// messages are the events of project main about resources of a type, the
// oldest first, each with its actor and the names of its targets.
func messages(r *rig, types ...string) []string {
	r.t.Helper()
	body, err := json.Marshal(map[string]any{"include_target_types": types, "ascending": true})
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, e := range post[[]api.Event](r, "/api/events/list", string(body)) {
		line := e.Message + " by " + deref(e.ActorUser, "system")
		for _, t := range e.Targets {
			line += " " + t.Type + "=" + t.Name
		}
		out = append(out, line)
	}
	return out
}

func TestGatewayCreate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if msg, code := refused(r, gateways+"create", `{"configuration":`+gatewayConf("gw", "")+`}`); msg != "Backend not available" || code != "backend_not_available" {
		t.Errorf("without a backend: %s %s", code, msg)
	}
	withBackend(r, "aws")
	got := r.request(http.MethodPost, gateways+"create", adminToken, `{"configuration":`+gatewayConf("gw", "")+`}`)
	var g api.Gateway
	if err := json.Unmarshal([]byte(got.body), &g); err != nil {
		t.Fatalf("%v in %s", err, got.body)
	}
	want := fmt.Sprintf(`{"id":%q,"name":"gw","project_name":"main","configuration":{"type":"gateway","name":"gw","default":true,"backend":"aws",`+
		`"region":"eu","instance_type":null,"domain":"*.example.com","public_ip":true,"load_balancer":null,"certificate":{"type":"lets-encrypt"},`+
		`"replicas":null,"tags":null},"created_at":%s,"status":"submitted","status_message":null,"hostname":null,"wildcard_domain":"*.example.com",`+
		`"default":true,"replicas":[],"backend":null,"region":null,"ip_address":null,"instance_id":null}`, g.ID, jsonOf(t, g.CreatedAt)[:len(jsonOf(t, g.CreatedAt))-1])
	if diff := cmp.Diff(want, got.body); diff != "" {
		t.Errorf("gateway (-want +got):\n%s", diff)
	}
	if msg, code := refused(r, gateways+"create", `{"configuration":`+gatewayConf("gw", "")+`}`); msg != "Resource exists" || code != "resource_exists" {
		t.Errorf("a taken name: %s %s", code, msg)
	}
	second := post[api.Gateway](r, gateways+"create", `{"configuration":`+strings.Replace(gatewayConf("gw2", `,"certificate":null,"replicas":2,"router":null`), `"gw2"`, "null", 1)+`}`)
	if !strings.Contains(second.Name, "-") || second.Default || *second.Configuration.Replicas != 2 || second.Configuration.Certificate != nil || len(second.Replicas) != 0 {
		t.Errorf("the second gateway is %+v", second)
	}
	wantEvents := []string{
		"Gateway created. Status: SUBMITTED by admin gateway=gw",
		"Gateway set as project default by admin gateway=gw project=main",
		"Gateway created. Status: SUBMITTED by admin gateway=" + second.Name,
	}
	if diff := cmp.Diff(wantEvents, messages(r, "gateway")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestGatewayRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	withBackend(r, "aws", "gcp", "azure", "kubernetes")
	const alb = `,"load_balancer":{"type":"alb"}`
	for name, tt := range map[string]struct{ backend, more, want string }{
		"backend":          {"lambda", ``, "Gateways are not supported for lambda backend. Available backends with gateway support: ['aws', 'azure', 'gcp', 'kubernetes']."},
		"private":          {"azure", `,"public_ip":false`, "Private gateways are not supported for azure backend.  Available backends with private gateway support: ['aws', 'gcp']."},
		"variable":         {"aws", `,"domain":"${{ run.foo }}.x"`, "Cannot interpolate gateway domain name: Failed to interpolate due to missing vars: ['run.foo']"},
		"open brace":       {"aws", `,"domain":"${{ run.project_name"`, "Cannot interpolate gateway domain name: No pattern closing: ${{ run.project_name"},
		"illegal variable": {"aws", `,"domain":"${{ foo }}"`, "Cannot interpolate gateway domain name: illegal name"},
		"replicas":         {"aws", `,"replicas":10,"certificate":null`, "Cannot provision 10 gateway replicas. This server allows at most 9"},
		"private LE":       {"aws", `,"public_ip":false`, "lets-encrypt certificate type is not supported for private gateways"},
		"LE with replicas": {"aws", `,"replicas":2`, "The `lets-encrypt` certificate type is not supported for gateways with `replicas` greater than `1`"},
		"acm":              {"gcp", `,"certificate":{"type":"acm","arn":"x"}`, "acm certificate type is supported for aws backend only"},
		"gcp-cm":           {"aws", `,"certificate":{"type":"gcp-cm","name":"x"}`, "gcp-cm certificate type is supported for gcp backend only"},
		"gcp-cm alone":     {"gcp", `,"certificate":{"type":"gcp-cm","name":"x"}`, "`certificate: { type: gcp-cm }` requires `load_balancer: { type: alb }`"},
		"alb on azure":     {"azure", alb, "`load_balancer: { type: alb }` is supported for `aws` and `gcp` backends only"},
		"alb with LE":      {"aws", alb, "`load_balancer: { type: alb }` can only be used with"},
		"alb on gcp":       {"gcp", alb, "`load_balancer: { type: alb }` for the `gcp` backend can only be used with"},
		"name":             {"aws", `,"name":"Bad_Name"`, "Resource name should match regex '^[a-z][a-z0-9-]{1,40}$'"},
	} {
		t.Run(name, func(t *testing.T) {
			conf := strings.Replace(gatewayConf("gw", tt.more), `"aws"`, fmt.Sprintf("%q", tt.backend), 1)
			for path, body := range map[string]string{
				"get_plan": `{"spec":{"configuration":` + conf + `}}`, "apply": gatewayApply(conf, true, nil), "create": `{"configuration":` + conf + `}`,
			} {
				if msg, code := refused(r, gateways+path, body); !strings.HasPrefix(msg, tt.want) || code != "error" {
					t.Errorf("%s: %s %q, want %q", path, code, msg, tt.want)
				}
			}
		})
	}
	if n := len(post[[]api.Gateway](r, gateways+"list", nil)); n != 0 {
		t.Errorf("%d gateways after refusals", n)
	}
	ok := gatewayConf("gw", `,"load_balancer":{"type":"alb"},"certificate":{"type":"acm","arn":"x"},"replicas":3`)
	post[api.GatewayPlan](r, gateways+"get_plan", `{"spec":{"configuration":`+ok+`}}`)
	post[api.GatewayPlan](r, gateways+"get_plan", `{"spec":{"configuration":`+gatewayConf("gw", `,"domain":"${{ run.project_name }}.x"`)+`}}`)
}

func TestGatewayApply(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	withBackend(r, "aws")
	apply := func(conf string, force bool, current any) api.Gateway {
		t.Helper()
		return post[api.Gateway](r, gateways+"apply", gatewayApply(conf, force, current))
	}
	action := func(conf string) string {
		t.Helper()
		return post[api.GatewayPlan](r, gateways+"get_plan", `{"spec":{"configuration":`+conf+`}}`).Action
	}
	if got := action(gatewayConf("gw", "")); got != "create" {
		t.Errorf("action %s, want create", got)
	}
	g := apply(gatewayConf("gw", `,"default":false`), false, nil)
	if g.Default {
		t.Error("default although it should not be")
	}
	for conf, want := range map[string]string{
		gatewayConf("gw", ""): "update", gatewayConf("gw", `,"domain":"x"`): "update", gatewayConf("gw", `,"region":"y"`): "create",
	} {
		if got := action(conf); got != want {
			t.Errorf("action %s for %s, want %s", got, conf, want)
		}
	}
	domain := gatewayConf("gw", `,"domain":"*.new.com"`)
	for _, current := range []any{nil, api.Gateway{ID: g.ID}} {
		if msg, _ := refused(r, gateways+"apply", gatewayApply(domain, false, current)); msg != msgResourceChanged {
			t.Errorf("with current_resource %v: %s", current, msg)
		}
	}
	g2 := apply(domain, false, g)
	if *g2.WildcardDomain != "*.new.com" || g2.ID != g.ID {
		t.Errorf("after the update: %+v", g2)
	}
	apply(domain, true, nil)
	if msg, _ := refused(r, gateways+"apply", gatewayApply(gatewayConf("gw", `,"region":"y"`), true, nil)); msg != "Gateway 'gw' cannot be updated in-place. Delete it and re-apply." {
		t.Errorf("another region: %s", msg)
	}
	other := apply(gatewayConf("other", `,"default":true,"certificate":null,"replicas":2`), false, nil)
	if got := apply(gatewayConf("gw", `,"domain":"*.new.com","default":true`), true, nil); !got.Default {
		t.Error("not default although it should be")
	}
	if got := apply(gatewayConf("gw", `,"domain":"*.new.com"`), true, nil); !got.Default {
		t.Error("not default although nothing was said")
	}
	old := r.request(http.MethodPost, gateways+"apply", adminToken, gatewayApply(gatewayConf("gw", `,"domain":"*.new.com","default":false`), true, nil), versionHeader, "0.21.0")
	if !strings.Contains(old.body, `"default":true,"backend"`) {
		t.Errorf("default:false of an old client: %s", old.body)
	}
	if got := apply(gatewayConf("gw", `,"domain":"*.new.com","default":false`), true, nil); got.Default {
		t.Error("default although it should not be any more")
	}
	apply(gatewayConf("other", `,"default":false,"certificate":null,"replicas":3,"domain":"z.com"`), true, other)
	want := []string{
		"Gateway created. Status: SUBMITTED by admin gateway=gw",
		"Gateway updated. Changed fields: domain by admin gateway=gw",
		"Gateway updated. Changed fields: by admin gateway=gw",
		"Gateway created. Status: SUBMITTED by admin gateway=other",
		"Gateway set as project default by admin gateway=other project=main",
		"Gateway unset as project default by admin gateway=other project=main",
		"Gateway set as project default by admin gateway=gw project=main",
		"Gateway updated. Changed fields: default by admin gateway=gw",
		"Gateway updated. Changed fields: by admin gateway=gw",
		"Gateway updated. Changed fields: by admin gateway=gw",
		"Gateway unset as project default by admin gateway=gw project=main",
		"Gateway updated. Changed fields: default by admin gateway=gw",
		"Gateway updated. Changed fields: domain, replicas by admin gateway=other",
	}
	if diff := cmp.Diff(want, messages(r, "gateway")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestGatewayWithoutDriver takes a gateway through its short life in a build
// that cannot make it.
func TestGatewayWithoutDriver(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	withBackend(r, "aws")
	g := post[api.Gateway](r, gateways+"create", `{"configuration":`+gatewayConf("gw", "")+`}`)
	key := store.Key{Kind: store.KindGateway, ID: g.ID}
	if err := r.engine.Step(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	got := post[api.Gateway](r, gateways+"get", `{"name":"gw"}`)
	if got.Status != api.GatewayFailed || deref(got.StatusMessage, "") != "This build of the server has no driver for backend aws yet" {
		t.Errorf("status %s, message %v", got.Status, got.StatusMessage)
	}
	for path, body := range map[string]string{"get_plan": `{"spec":{"configuration":` + gatewayConf("gw", "") + `}}`, "apply": gatewayApply(gatewayConf("gw", ""), true, nil)} {
		if msg, _ := refused(r, gateways+path, body); msg != "Gateway 'gw' is in FAILED status and cannot be updated in-place. Delete it and re-apply." {
			t.Errorf("%s of a failed one: %s", path, msg)
		}
	}
	post[any](r, gateways+"delete", `{"names":["gw","none"]}`)
	post[any](r, gateways+"delete", `{"names":["gw"]}`)
	if msg, _ := refused(r, gateways+"apply", gatewayApply(gatewayConf("gw", ""), true, nil)); msg != "Gateway 'gw' is being deleted. Try again later." {
		t.Errorf("apply while it goes: %s", msg)
	}
	if msg, _ := refused(r, gateways+"set_default", `{"name":"gw"}`); msg != "Cannot set gateway marked for deletion as default" {
		t.Errorf("set_default while it goes: %s", msg)
	}
	if err := r.engine.Step(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if msg, code := refused(r, gateways+"get", `{"name":"gw"}`); code != "resource_not_exists" || msg != "Resource not found" {
		t.Errorf("get after it is gone: %s %s", code, msg)
	}
	want := []string{
		"Gateway status changed SUBMITTED -> FAILED (This build of the server has no driver for backend aws yet) by system gateway=gw",
		"Gateway marked for deletion by admin gateway=gw", "Gateway deleted by system gateway=gw",
	}
	if diff := cmp.Diff(want, messages(r, "gateway")[2:]); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestGatewayDefaultAndDomain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	withBackend(r, "aws")
	for _, name := range []string{"gw-b", "gw-a"} {
		post[any](r, gateways+"create", `{"configuration":`+strings.Replace(gatewayConf(name, ""), `"*.example.com"`, "null", 1)+`}`)
	}
	post[any](r, gateways+"set_default", `{"name":"gw-a"}`)
	post[any](r, gateways+"set_default", `{"name":"gw-a","gateway_project":"main"}`)
	var got []string
	for _, g := range post[[]api.Gateway](r, gateways+"list", "") {
		got = append(got, fmt.Sprint(g.Name, " ", g.Default, " ", *g.Configuration.Default))
	}
	if diff := cmp.Diff([]string{"gw-a true true", "gw-b false false"}, got); diff != "" {
		t.Errorf("gateways (-want +got):\n%s", diff)
	}
	for _, domain := range []string{"*.a.com", "*.a.com", "b.com"} {
		g := post[api.Gateway](r, gateways+"set_wildcard_domain", fmt.Sprintf(`{"name":"gw-b","wildcard_domain":%q}`, domain))
		if *g.WildcardDomain != domain || *g.Configuration.Domain != domain {
			t.Errorf("domain %v", g.WildcardDomain)
		}
	}
	for path, body := range map[string]string{
		"set_default": `{"name":"none"}`, "set_wildcard_domain": `{"name":"none","wildcard_domain":"x"}`, "get": `{"name":"none"}`,
	} {
		if msg, code := refused(r, gateways+path, body); code != "resource_not_exists" || msg != "Resource not found" {
			t.Errorf("%s: %s %s", path, code, msg)
		}
	}
	if _, code := refused(r, gateways+"set_default", `{"name":"gw-a","gateway_project":"none"}`); code != "resource_not_exists" {
		t.Errorf("gateway of an unknown project: %s", code)
	}
	for _, body := range []string{`{"name":"gw-a"}`, `{"name":"gw-a","wildcard_domain":null}`} {
		if a := r.request(http.MethodPost, gateways+"set_wildcard_domain", adminToken, body); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	want := []string{
		"Gateway unset as project default by admin gateway=gw-b project=main", "Gateway set as project default by admin gateway=gw-a project=main",
		"Gateway wildcard domain changed None -> '*.a.com' by admin gateway=gw-b", "Gateway wildcard domain changed '*.a.com' -> 'b.com' by admin gateway=gw-b",
	}
	if diff := cmp.Diff(want, messages(r, "gateway")[3:]); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestGatewayLegacy renders a gateway with replicas for clients of all ages.
func TestGatewayLegacy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	withBackend(r, "aws")
	g := post[api.Gateway](r, gateways+"create", `{"configuration":`+gatewayConf("gw", "")+`}`)
	r.write(func(tx *store.Tx) error {
		for i, host := range []*string{new("1.2.3.4"), nil, new("lb.example.com")} {
			replica := store.GatewayReplica{
				ID: fmt.Sprint("r", i), GatewayID: g.ID, Num: i, Backend: "aws", Hostname: host, CreatedAt: r.now(), Status: api.ReplicaProvisioning,
			}
			if err := tx.InsertGatewayReplica(&replica); err != nil {
				return err
			}
		}
		return nil
	})
	for version, want := range map[string][]string{
		"0.22.5":  {`"hostname":null,"wildcard_domain"`, `"ip_address":null,"instance_id":null`, `"hostname":null,"replica_num":1,"backend":"aws","region":null`},
		"0.20.26": {`"hostname":null,"wildcard_domain"`, `"ip_address":null,"instance_id":null`, `"hostname":"","replica_num":1,"backend":"aws","region":""`},
		"0.20.20": {`"hostname":"1.2.3.4\nlb.example.com","wildcard_domain"`, `"ip_address":"1.2.3.4\nlb.example.com","instance_id":""`, `"hostname":null,"replica_num":1`},
	} {
		got := r.request(http.MethodPost, gateways+"get", adminToken, `{"name":"gw"}`, versionHeader, version)
		for _, part := range want {
			if !strings.Contains(got.body, part) {
				t.Errorf("%s: no %s in %s", version, part, got.body)
			}
		}
	}
}

func TestGatewayAccess(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	withBackend(r, "aws")
	post[any](r, gateways+"create", `{"configuration":`+gatewayConf("gw", "")+`}`)
	conf := gatewayConf("gw", "")
	for path, tt := range map[string]struct {
		body     string
		member   int
		outsider int
	}{
		"list":                {`{}`, 200, 403},
		"get":                 {`{"name":"gw"}`, 200, 403},
		"get_plan":            {`{"spec":{"configuration":` + conf + `}}`, 403, 403},
		"apply":               {gatewayApply(conf, true, nil), 403, 403},
		"create":              {`{"configuration":` + conf + `}`, 403, 403},
		"delete":              {`{"names":["gw"]}`, 403, 403},
		"set_default":         {`{"name":"gw"}`, 403, 403},
		"set_wildcard_domain": {`{"name":"gw","wildcard_domain":"x"}`, 403, 403},
	} {
		if a := r.request(http.MethodPost, gateways+path, memberToken, tt.body); a.status != tt.member {
			t.Errorf("%s as member: %d %s", path, a.status, a.body)
		}
		if a := r.request(http.MethodPost, gateways+path, outsiderToken, tt.body); a.status != tt.outsider {
			t.Errorf("%s as outsider: %d %s", path, a.status, a.body)
		}
	}
	public := store.Project{ID: "public", Name: "public", OwnerID: r.admin.ID, IsPublic: true, CreatedAt: r.now()}
	r.write(func(tx *store.Tx) error { return tx.InsertProject(&public) })
	if a := r.request(http.MethodPost, "/api/project/public/gateways/list", outsiderToken, "{}"); a.status != http.StatusOK {
		t.Errorf("list of a public project: %d %s", a.status, a.body)
	}
}
