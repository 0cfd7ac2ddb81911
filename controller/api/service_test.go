package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// confSpec is a run specification with a configuration, as JSON.
func confSpec(name, configuration string) string {
	return fmt.Sprintf(`{"run_name":%q,"configuration":{%s},"profile":{"name":"default"}}`, name, configuration)
}

const aService = `"type":"service","port":8000,"commands":["a"]`

func apply(name, configuration string) string {
	return `{"plan":{"run_spec":` + confSpec(name, configuration) + `},"force":true}`
}

// TestServiceWithoutGateway has the answers of 0.22.5.
func TestServiceWithoutGateway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, c := range map[string]struct{ conf, msg, code string }{
		"scaling":       {`,"replicas":"0..2","scaling":{"metric":"rps","target":1}`, "Auto-scaling is not supported when running services without a gateway. Please configure a gateway or set `replicas` to a fixed value in the service configuration", "error"},
		"plain HTTP":    {`,"https":false`, "Setting `https: False` is not allowed without a gateway. Please configure a gateway or remove the `https` property from the service configuration", "error"},
		"rate limits":   {`,"rate_limits":[{"rps":1}]`, "Rate limits are not supported when running services without a gateway. Please configure a gateway or remove `rate_limits` from the service configuration", "error"},
		"no default":    {`,"gateway":true`, "The service requires a gateway, but there is no default gateway in the project", "resource_not_exists"},
		"unknown":       {`,"gateway":"gw"`, "Gateway gw does not exist in project main", "resource_not_exists"},
		"foreign":       {`,"gateway":"pp/gw"`, "Gateway pp/gw does not exist in project main", "resource_not_exists"},
		"long probe":    {`,"probes":[{"type":"http","timeout":301}]`, "Probe timeout cannot be longer than 300s", "error"},
		"asleep":        {`,"replicas":0,"schedule":{"cron":"0 0 * * *"}`, "Scheduled services with autoscaling to zero are not supported", "error"},
		"no tokenizer":  {`,"model":{"name":"m","format":"tgi"}`, "Failed to get tokenizer info", "error"},
		"other node":    {`,"entrypoint":null,"env":{"A":"${{ groups[0].replicas[0].IP_ADDRESS }}"}`, "groups IP references are only supported in commands, not in `env`", "error"},
		"retry":         {`,"retry":{"duration":-1}`, "retry.duration cannot be negative", "error"},
		"absent volume": {`,"volumes":["v:/d"]`, "Volume ['v'] not found", "resource_not_exists"},
	} {
		if msg, code := refused(r, runs+"apply", apply("web", aService+c.conf)); !strings.HasPrefix(msg, c.msg) || code != c.code {
			t.Errorf("%s: %s %q, want %s %q", name, code, msg, c.code, c.msg)
		}
	}
	if _, code := refused(r, runs+"get", `{"run_name":"web"}`); code != "resource_not_exists" {
		t.Errorf("a run was made: %s", code)
	}
	got := post[api.Run](r, runs+"apply", apply("web", aService+`,"model":"m","replicas":2`))
	want := &api.Service{
		URL: "/proxy/services/main/web/", Model: &api.ServiceModel{Name: "m", BaseURL: "/proxy/services/main/web/v1", Type: "chat"},
	}
	if got.Service != nil {
		got.Service.Options = api.ServiceOptions{}
	}
	if diff := cmp.Diff(want, got.Service); diff != "" {
		t.Errorf("service (-want +got):\n%s", diff)
	}
	if len(got.Jobs) != 2 || got.Jobs[1].JobSpec.JobName != "web-0-1" || *got.Jobs[1].JobSpec.ServicePort != 8000 || len(got.Jobs[0].JobSpec.Probes) != 1 {
		t.Errorf("jobs: %+v", got.Jobs)
	}
	a := r.request(http.MethodPost, runs+"get", adminToken, `{"run_name":"web"}`)
	for _, part := range []string{
		`"options":{"openai":{"model":{"type":"chat","name":"m","format":"openai","prefix":"/v1"}}}`,
		`"body":"{\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"max_tokens\": 1}"`,
	} {
		if !strings.Contains(a.body, part) {
			t.Errorf("%s is not in %s", part, a.body)
		}
	}
}

// TestServiceThroughGateway is rest-api.md 8 and the checks of 7.6 there.
func TestServiceThroughGateway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := store.Gateway{
		ID: uuid.NewString(), ProjectID: r.main.ID, Name: "gw", Status: api.GatewaySubmitted, CreatedAt: r.now(),
		Configuration: config.Gateway{Type: config.TypeGateway, Backend: "aws", Region: "eu", PublicIP: true, Certificate: &config.Certificate{Type: config.CertificateLetsEncrypt}},
	}
	r.write(func(tx *store.Tx) error {
		if err := tx.InsertGateway(&g); err != nil {
			return err
		}
		return tx.SetDefaultGateway(r.main.ID, g.ID)
	})
	change := func(fn func(g *store.Gateway)) {
		t.Helper()
		r.write(func(tx *store.Tx) error {
			row, err := tx.Gateway(g.ID)
			if err != nil {
				return err
			}
			fn(&row)
			return tx.UpdateGateway(&row)
		})
	}
	expect := func(want string) {
		t.Helper()
		if msg, _ := refused(r, runs+"apply", apply("web", aService)); msg != want {
			t.Errorf("%q, want %q", msg, want)
		}
	}
	expect("Gateway status is not running")
	change(func(g *store.Gateway) { g.Status = api.GatewayRunning })
	expect("Gateway has no instance associated with it")
	r.write(func(tx *store.Tx) error {
		return tx.InsertGatewayReplica(&store.GatewayReplica{ID: uuid.NewString(), GatewayID: g.ID, Backend: "aws", CreatedAt: r.now()})
	})
	expect("Domain is required for gateway")
	change(func(g *store.Gateway) { g.Configuration.Domain = new("${{ run.project_name }}.example.com") })
	for name, c := range map[string]struct{ conf, url, base string }{
		"web":   {"", "https://web.main.example.com", ""},
		"named": {`,"gateway":"gw","https":false,"replicas":"1..2","scaling":{"metric":"rps","target":1}`, "http://named.main.example.com", ""},
		"model": {`,"gateway":true,"model":"m"`, "https://model.main.example.com", "https://model.main.example.com/v1"},
		"tgi":   {`,"model":{"name":"m","format":"tgi","chat_template":"x","eos_token":"y"}`, "https://tgi.main.example.com", "https://gateway.main.example.com"},
		"plain": {`,"https":false,"model":{"name":"m","format":"tgi","chat_template":"x","eos_token":"y"}`, "http://plain.main.example.com", "https://gateway.main.example.com"},
		"none":  {`,"gateway":false`, "/proxy/services/main/none/", ""},
	} {
		got := post[api.Run](r, runs+"apply", apply(name, aService+c.conf)).Service
		base := ""
		if got.Model != nil {
			base = got.Model.BaseURL
		}
		if got.URL != c.url || base != c.base {
			t.Errorf("%s: %s %s, want %s %s", name, got.URL, base, c.url, c.base)
		}
	}
	change(func(g *store.Gateway) { g.Configuration.Domain = new("*.apps.example.com") })
	if got := post[api.Run](r, runs+"apply", apply("starred", aService)).Service; got.URL != "https://starred.apps.example.com" {
		t.Errorf("domain with *.: %s", got.URL)
	}
	change(func(g *store.Gateway) { g.Configuration.Certificate = &config.Certificate{Type: config.CertificateACM} })
	if msg, _ := refused(r, runs+"apply", apply("late", aService+`,"https":false`)); msg != "Cannot run HTTP service on gateway with load balancer certificates configured" {
		t.Errorf("HTTP: %q", msg)
	}
	change(func(g *store.Gateway) { g.Configuration.Certificate = nil })
	if msg, _ := refused(r, runs+"apply", apply("late", aService)); msg != "Cannot run HTTPS service on gateway with no SSL certificates configured" {
		t.Errorf("HTTPS: %q", msg)
	}
	if got := post[api.Run](r, runs+"apply", apply("either", aService+`,"https":"auto"`)).Service; got.URL != "http://either.apps.example.com" {
		t.Errorf("https auto without a certificate: %s", got.URL)
	}
	change(func(g *store.Gateway) { g.Deleting = true })
	if msg, code := refused(r, runs+"apply", apply("late", aService)); msg != "Gateway gw was marked for deletion" || code != "resource_not_exists" {
		t.Errorf("deleted gateway: %s %q", code, msg)
	}
	// An update that moves a service gives it another address.
	moved := post[api.Run](r, runs+"apply", apply("none", aService+`,"gateway":false,"env":{"A":"1"}`))
	if moved.DeploymentNum != 1 || moved.Service.URL != "/proxy/services/main/none/" {
		t.Errorf("update: %+v", moved.Service)
	}
}

// TestUpdateFields is the table of rest-api.md 9.2; the outcomes are those of
// 0.22.5.
func TestUpdateFields(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const service, task = aService, `"type":"task","commands":["a"]`
	const dev = `"type":"dev-environment","ide":"vscode"`
	const router = `"type":"service","port":80,"groups":[{"replicas":1,"commands":["z"],"router":{"type":"dynamo"}},{"replicas":1,"commands":["y"]}]`
	for name, c := range map[string]struct{ from, to, fields string }{
		"nothing":          {service, service, ""},
		"several":          {service, `"type":"service","port":8000,"commands":["b"],"replicas":2,"resources":{"gpu":1},"priority":5`, "configuration.replicas, configuration.commands, configuration.resources, configuration.priority"},
		"https":            {service, service + `,"https":true`, "configuration.https"},
		"https auto":       {service, service + `,"https":"auto"`, "-"},
		"auth":             {service, service + `,"auth":false`, "-"},
		"model":            {service, service + `,"model":"m"`, "-"},
		"gateway":          {service, service + `,"gateway":false`, "configuration.gateway"},
		"max_duration":     {service, service + `,"max_duration":100`, "-"},
		"groups":           {service, `"type":"service","port":8000,"groups":[{"replicas":1,"commands":["z"]}]`, "configuration.groups, configuration.commands"},
		"a router":         {service, `"type":"service","port":8000,"groups":[{"replicas":1,"commands":["z"],"router":{}},{"replicas":1,"commands":["z"]}]`, "-"},
		"dynamo: env":      {router, router + `,"env":{"A":"1"}`, "-"},
		"dynamo: priority": {router, router + `,"priority":3`, "configuration.priority"},
		"type":             {service, task, "-"},
		"task: priority":   {task, task + `,"priority":5`, "configuration.priority"},
		"task: files":      {task, task + `,"files":["a:b"]`, "configuration.files"},
		"task: commands":   {task, `"type":"task","commands":["b"]`, "-"},
		"task: arch":       {task + `,"image":"scratch","resources":{"cpu":"x86:2.."}`, task + `,"image":"scratch"`, "configuration.resources"},
		"dev: inactivity":  {dev, dev + `,"inactivity_duration":"1h"`, "configuration.inactivity_duration"},
		"dev: init":        {dev, dev + `,"init":["a"]`, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := "u-" + strings.NewReplacer(": ", "-", " ", "-", "_", "-").Replace(name)
			post[api.Run](r, runs+"apply", apply(run, c.from))
			plan := post[api.RunPlan](r, runs+"get_plan", `{"run_spec":`+confSpec(run, c.to)+`}`)
			if c.fields == "-" {
				if msg, _ := refused(r, runs+"apply", apply(run, c.to)); msg != "Cannot override active run. Stop the run first." || plan.Action != "create" {
					t.Errorf("%s, action %s", msg, plan.Action)
				}
				return
			}
			got := post[api.Run](r, runs+"apply", apply(run, c.to))
			if got.DeploymentNum != 1 || plan.Action != "update" {
				t.Errorf("deployment %d, action %s", got.DeploymentNum, plan.Action)
			}
			want := strings.TrimSpace("Run updated. Deployment: 1. Changed fields: " + c.fields)
			events := post[[]api.Event](r, "/api/events/list", `{"target_runs":["`+got.ID+`"]}`)
			if events[0].Message != want && events[1].Message != want {
				t.Errorf("event %q, want %q", events[0].Message, want)
			}
		})
	}
}

// TestRepeatedRequest: a run without a name is made once.
func TestRepeatedRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	body := `{"plan":{"run_spec":` + runSpec("", "") + `},"force":false}`
	var ids []string
	for _, key := range []string{"k1", "k1", "k2", ""} {
		var headers []string
		if key != "" {
			headers = []string{"Idempotency-Key", key}
		}
		a := r.request(http.MethodPost, runs+"apply", adminToken, body, headers...)
		_, rest, _ := strings.Cut(a.body, `"id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		ids = append(ids, id)
	}
	if ids[0] == "" || ids[0] != ids[1] || ids[1] == ids[2] || ids[2] == ids[3] {
		t.Errorf("runs %q", ids)
	}
	other := r.request(http.MethodPost, runs+"apply", memberToken, body, "Idempotency-Key", "k1")
	if strings.Contains(other.body, ids[0]) {
		t.Error("another user's key gave this user's run")
	}
}

// TestUpdateOnThisMachineIsForAdmins keeps a member from having an admin's
// service run other commands on the server's own machine.
func TestUpdateOnThisMachineIsForAdmins(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	update := func(token, run, commands string) answer {
		t.Helper()
		body := strings.Replace(apply(run, `"type":"service","port":8000,"commands":["`+commands+`"]`),
			`"run_name"`, `"ssh_key_pub":"ssh-rsa AAAA x","run_name"`, 1)
		return r.request(http.MethodPost, runs+"apply", token, body)
	}
	expect := func(a answer, status int, part string) {
		t.Helper()
		if a.status != status || !strings.Contains(a.body, part) {
			t.Errorf("%d %s, want %d %s", a.status, a.body, status, part)
		}
	}
	expect(update(adminToken, "web", "a"), http.StatusOK, "")
	expect(update(memberToken, "own", "a"), http.StatusOK, "")
	expect(update(memberToken, "web", "b"), http.StatusOK, `"deployment_num":1`)
	fleet := applyFleet(t, r, fleetSpec(t, "lab", "", "127.0.0.1"), nil)
	r.write(func(tx *store.Tx) error {
		in, err := tx.Instance(fleet.Instances[0].ID)
		in.Access = store.Access{Local: true}
		return errors.Join(err, tx.UpdateInstance(&in))
	})
	expect(update(memberToken, "web", "c"), http.StatusBadRequest, "only administrators can update it")
	expect(update(memberToken, "own", "c"), http.StatusOK, `"deployment_num":1`)
	expect(update(adminToken, "web", "c"), http.StatusOK, `"deployment_num":2`)
}

// TestRunSize keeps one request from taking all memory.
func TestRunSize(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const msg = "A run may have 1000 jobs at most"
	empty := `{"replicas":0,"commands":["a"]},`
	for name, conf := range map[string]string{
		"nodes":        `"type":"task","commands":["a"],"nodes":2000000000`,
		"node groups":  `"type":"task","groups":[{"nodes":600,"commands":["a"]},{"nodes":401,"commands":["a"]}]`,
		"replicas":     aService + `,"replicas":2000000000`,
		"empty groups": `"type":"service","port":80,"groups":[` + strings.Repeat(empty, 1000) + `{"replicas":1,"commands":["a"]}]`,
	} {
		if got, _ := refused(r, runs+"apply", apply("big", conf)); got != msg {
			t.Errorf("%s: apply: %q", name, got)
		}
		if got, _ := refused(r, runs+"get_plan", `{"run_spec":`+confSpec("big", conf)+`}`); got != msg {
			t.Errorf("%s: plan: %q", name, got)
		}
	}
}

// TestDefaultGatewayOfOthers: a default gateway counts only as long as it is
// lent.
func TestDefaultGatewayOfOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	other := store.Project{ID: uuid.NewString(), Name: "other", OwnerID: r.admin.ID, CreatedAt: r.now()}
	g := store.Gateway{
		ID: uuid.NewString(), ProjectID: other.ID, Name: "gw", Status: api.GatewaySubmitted, CreatedAt: r.now(),
		Configuration: config.Gateway{Type: config.TypeGateway, Backend: "aws", Region: "eu"},
	}
	r.write(func(tx *store.Tx) error {
		return errors.Join(tx.InsertProject(&other), tx.InsertGateway(&g), tx.SetDefaultGateway(r.main.ID, g.ID))
	})
	post[any](r, "/api/project/other/exports/create", `{"name":"ex","importer_projects":["main"],"exported_gateways":["gw"]}`)
	if msg, _ := refused(r, runs+"apply", apply("web", aService)); msg != "Gateway status is not running" {
		t.Errorf("while it is lent: %q", msg)
	}
	post[any](r, "/api/project/other/exports/delete", `{"name":"ex"}`)
	if run := post[api.Run](r, runs+"apply", apply("web", aService)); run.Service == nil || run.Service.URL != "/proxy/services/main/web/" {
		t.Errorf("afterwards: %+v", run.Service)
	}
	if msg, _ := refused(r, runs+"apply", apply("gw", aService+`,"gateway":true`)); !strings.HasPrefix(msg, "The service requires a gateway") {
		t.Errorf("afterwards, with a gateway: %q", msg)
	}
}
