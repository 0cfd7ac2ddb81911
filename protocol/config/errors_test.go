package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/internal/decode"
)

// Errors of files say where, what and what to do.
func TestFileErrors(t *testing.T) {
	t.Parallel()
	const task = "type: task\ncommands: [a]\n"
	const service = "type: service\nport: 80\nimage: a\n"
	tests := []struct{ name, text, want string }{
		{"near key", task + "comands: [a]", "f:3:1: comands: unknown field, did you mean `commands`?"},
		{"near key below", task + "resources:\n  gpus: 1", "f:4:3: resources.gpus: unknown field, did you mean `gpu`?"},
		{"far key", task + "zzz: 1", "f:3:1: zzz: unknown field"},
		{"near word", task + "spot_policy: ondemand", "f:3:14: spot_policy: must be one of spot, on-demand, auto, found \"ondemand\", did you mean `on-demand`?"},
		{"near type", "type: servce", "f:1:7: type: must be one of dev-environment, task, service, fleet, gateway, volume, preset, found \"servce\", did you mean `service`?"},
		{"near kind of a union", service + "model: {name: a, format: openapi}", "f:4:26: model.format: must be one of tgi, openai, found \"openapi\", did you mean `openai`?"},
		{"no type", "commands: [a]", "f:1:1: type is required, allowed: dev-environment, task, service, fleet, gateway, volume, preset"},
		{"one number that is two ports", task + "ports: [99999]", "f:3:9: ports.0.local_port: must be <= 65535, found 99999"},
		{"base of 60", task + "ports: [2222:22]", `f:3:9: ports.0.local_port: YAML takes the unquoted 2222:22 for the number 133342, write "2222:22" in quotes`},
		{"one size that is two bounds", task + "resources: {memory: 16G}", "f:3:21: resources.memory.min: must be a size, found \"16G\", allowed: a number with MB, GB or TB"},
		{"rule of the object, place of the field", "type: task\nnodes: 2\ngroups: [{commands: [a]}]", "f:2:8: nodes: `nodes` and `groups` are mutually exclusive"},
		{"range without scaling", service + "replicas: 1..2", "f:4:11: replicas: When you set `replicas` to a range, ensure to specify `scaling`."},
		{"both levels", service + "groups: [{replicas: 1, image: b}]", "f:3:8: image: `image` is set at both the service level and in replica group(s) ['0']. Set `image` in one place only — either at the service level (all groups inherit) or per group, but not both."},
		{"all at once", "type: gateway\nbackend: awss\nregio: x", "f:1:1: region: required\nf:2:10: backend: must be one of " + strings.Join(BackendTypes, ", ") + ", found \"awss\", did you mean `aws`?\nf:3:1: regio: unknown field, did you mean `region`?"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := DecodeApply("f", []byte(tt.text))
			if diff := cmp.Diff(tt.want, fmt.Sprint(err)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What is accepted but was hardly meant is said too.
func TestWarnings(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"repeated key", "type: task\ncommands: [a]\ncommands: [b]\n", "f:3:1: commands: given twice, the value of line 2 is ignored"},
		{"base of 60", "type: task\ncommands: [a]\nports: [80:22]\n", `f:3:9: ports.0: YAML takes the unquoted 80:22 for the number 4822, write "80:22" in quotes`},
		{"base of 60 in a service", "type: service\nimage: a\nport: 80:22\n", `f:3:7: port: YAML takes the unquoted 80:22 for the number 4822, write "80:22" in quotes`},
		{"nvcc", "type: task\nimage: a\nnvcc: true\n", "f:3:7: nvcc: has no effect with `image`"},
		{"docker as text", "type: task\nimage: a\ndocker: \"true\"\n", "f:3:9: docker: `image` and `docker` exclude each other"},
		{"scaling", "type: service\nimage: a\nport: 1\nscaling: {metric: rps, target: 1}\n", "f:4:10: scaling: has no effect without `replicas`, set `replicas: MIN..MAX`"},
		{"body", "type: service\nimage: a\nport: 1\nprobes: [{type: http, body: x}]\n", "f:4:29: probes.0.body: the probe sends a body with its default method get, set `method: post`"},
		{"resources", "type: task\nresources: {gpu: 1}\ngroups: [{commands: [a]}]\n", "f:2:12: resources: is ignored when `groups` is set, set it inside the groups"},
		{"merged key", "type: task\ncommands: [a]\nresources:\n  <<: {cpu: 1}\n  cpu: 2\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := DecodeApply("f", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.Warnings.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// REST clients get type, place and text of 0.22.5; all were seen on a real
// server.
func TestDetailsAreThoseOfARealServer(t *testing.T) {
	t.Parallel()
	const task = `{"type":"task","commands":["a"],`
	const service = `{"type":"service","port":80,`
	tests := []struct{ body, typ, loc, msg string }{
		{`{}`, "union_tag_not_found", `[]`, "Unable to extract tag using discriminator 'type'"},
		{`{"type":"job"}`, "union_tag_invalid", `[]`, "Input tag 'job' found using 'type' does not match any of the expected tags: 'dev-environment', 'task', 'service'"},
		{`{"type":"task"}`, "value_error", `["task"]`, "Value error, Either `commands` or `image` must be set"},
		{task + `"x":1}`, "extra_forbidden", `["task","x"]`, "Extra inputs are not permitted"},
		{task + `"nodes":0}`, "greater_than_equal", `["task","nodes"]`, "Input should be greater than or equal to 1"},
		{task + `"nodes":"x"}`, "int_parsing", `["task","nodes"]`, "Input should be a valid integer, unable to parse string as an integer"},
		{task + `"spot_policy":"x"}`, "enum", `["task","spot_policy"]`, "Input should be 'spot', 'on-demand' or 'auto'"},
		{task + `"ports":[{}]}`, "missing", `["task","ports",0,"container_port"]`, "Field required"},
		{task + `"ports":["a:b"]}`, "value_error", `["task","ports",0]`, "Value error, a:b"},
		{task + `"resources":{"cpu":"4:8"}}`, "value_error", `["task","resources","cpu"]`, "Value error, CPU spec count conflict: 4:8"},
		{task + `"resources":{"gpu":"A,,B"}}`, "value_error", `["task","resources","gpu"]`, "Value error, GPU name can not be empty: A,,B"},
		{task + `"resources":{"memory":"8GB..512MB"}}`, "value_error", `["task","resources","memory"]`, "Value error, Invalid range order: 8GB..0.5GB"},
		{task + `"resources":{"shm_size":"x"}}`, "value_error", `["task","resources","shm_size"]`, "Value error, could not convert string to float: 'x'"},
		{task + `"max_duration":"1h30m"}`, "value_error", `["task","max_duration"]`, "Value error, Cannot parse the duration 1h30m"},
		{task + `"max_price":0}`, "greater_than", `["task","max_price"]`, "Input should be greater than 0"},
		{task + `"instances":[]}`, "too_short", `["task","instances"]`, "List should have at least 1 item after validation, not 0"},
		{task + `"user":"-1"}`, "value_error", `["task","user"]`, "Value error, invalid user format: negative uid -1"},
		{task + `"tags":{"a b":"c"}}`, "value_error", `["task","tags"]`, `Value error, Invalid tag key a b. The key must match regex '^[_\-a-zA-Z0-9]{1,60}$'`},
		{task + `"env":["A","A"]}`, "value_error", `["task","env"]`, "Value error, Duplicate environment variable: A"},
		{`{"type":"task","nodes":2,"groups":[{"commands":["a"]}]}`, "value_error", `["task"]`, "Value error, `nodes` and `groups` are mutually exclusive"},
		{service + `"commands":["a"],"replicas":"1.."}`, "value_error", `["service","replicas"]`, "Value error, The maximum number of replicas is required"},
		{service + `"commands":["a"],"model":{"name":"m"}}`, "union_tag_not_found", `["service","model"]`, "Unable to extract tag using discriminator 'format'"},
		{service + `"commands":["a"],"rate_limits":[{"rps":0.001}]}`, "greater_than_equal", `["service","rate_limits",0,"rps"]`, "Input should be greater than or equal to 0.016666666666666666"},
		{service + `"commands":["a"],"probes":[{"type":"http","method":"GET"}]}`, "literal_error", `["service","probes",0,"method"]`, "Input should be 'get', 'post', 'put', 'delete', 'patch' or 'head'"},
		{service + `"replicas":[{"commands":["a"]}]}`, "missing", `["service","groups",0,"replicas"]`, "Field required"},
	}
	for _, tt := range tests {
		t.Run(tt.body, func(t *testing.T) {
			t.Parallel()
			root, err := decode.JSON([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			_, err = decode.Read("", root, ReadRun)
			errs, _ := errors.AsType[Errors](err)
			if len(errs) != 1 {
				t.Fatalf("%d errors: %v", len(errs), err)
			}
			got := errs.Details()[0]
			loc, err := json.Marshal(got.Loc[1:])
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{tt.typ, tt.loc, tt.msg}, []string{got.Type, string(loc), got.Msg}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Files that config.yml names are read; what is secret stays out of errors.
func TestBackendFiles(t *testing.T) {
	t.Parallel()
	files := func(path string) ([]byte, error) {
		switch path {
		case "~/key":
			return []byte("KEY"), nil
		case "nebius.json":
			return []byte(`{"subject-credentials":{"alg":"RS256","private-key":"PK","kid":"KID","iss":"S","sub":"S"}}`), nil
		case "other.json":
			return []byte(`{"subject-credentials":{"alg":"RS256","private-key":"PK","kid":"KID","iss":"S","sub":"T"}}`), nil
		case "closed":
			return nil, fs.ErrPermission
		}
		return nil, fs.ErrNotExist
	}
	tests := []struct{ name, text, want, fault string }{
		{"GCP", "{type: gcp, project_id: p, creds: {type: service_account, filename: ~/key}}", `"data":"KEY"`, ""},
		{"GCP with data", "{type: gcp, project_id: p, creds: {type: service_account, filename: none, data: D}}", `"data":"D"`, ""},
		{"GCP without file name", "{type: gcp, project_id: p, creds: {type: service_account, data: D}}", "", "creds.filename: required"},
		{"not there", "{type: kubernetes, kubeconfig: {filename: none}}", "", "kubeconfig.filename: No such file none"},
		{"not readable", "{type: kubernetes, kubeconfig: {filename: closed}}", "", "kubeconfig.filename: cannot read file closed: permission denied"},
		{"Slurm", "{type: slurm, clusters: [{name: c, hostname: h, user: u, private_key: {path: ~/key}}]}", `"content":"KEY"`, ""},
		{"Nebius", "{type: nebius, creds: {filename: nebius.json, service_account_id: X}}", `"service_account_id":"S","public_key_id":"KID","private_key_file":null,"private_key_content":"PK"`, ""},
		{"Nebius, of another subject", "{type: nebius, creds: {filename: other.json}}", "", "creds.filename: Failed to parse credentials file other.json"},
		{"Nebius, no JSON", "{type: nebius, creds: {filename: ~/key}}", "", "creds.filename: Failed to parse credentials file ~/key, it must be JSON"},
		{"Nebius key", "{type: nebius, creds: {service_account_id: a, public_key_id: b, private_key_file: ~/key}}", `"private_key_content":"KEY"`, ""},
		{"Nebius without key", "{type: nebius, creds: {service_account_id: a, public_key_id: b}}", "", "creds: Either `private_key_file` or `private_key_content` must be specified"},
		{"OCI keeps the name", "{type: oci, creds: {type: client, user: u, tenancy: t, fingerprint: f, region: r, key_file: none}}", `"key_file":"none","key_content":null`, ""},
		{"secret in an error", "{type: lambda, creds: {api_key: [hush]}}", "", "creds.api_key: must be a string, found a list"},
		{"unknown field of a type", "{type: aws, creds: {type: default, access_key: hush}}", "", "creds.access_key: unknown field"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := DecodeBackendYAML("", []byte(tt.text), files)
			if tt.fault != "" {
				if !strings.Contains(fmt.Sprint(err), tt.fault) || strings.Contains(fmt.Sprint(err), "hush") {
					t.Errorf("error %v, want %q", err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(got)
			if err != nil || !strings.Contains(string(text), tt.want) {
				t.Errorf("%v: %s has no %s", err, text, tt.want)
			}
		})
	}
}
