package config

import (
	"strings"
	"testing"
)

func TestValidateSubmit(t *testing.T) {
	t.Parallel()
	const window = 3600
	tests := []struct{ name, yaml, want string }{
		{"fine", "commands: [a]", ""},
		{"negative retry", "commands: [a]\nretry: {duration: -1}", "retry.duration"},
		{"long window", "commands: [a]\nutilization_policy: {min_gpu_utilization: 1, time_window: 2h}", "time_window"},
		{"sentinel", "commands: [a]\nenv: [A]", "env: A has no value"},
		{"address in env", "commands: [a]\nenv: {A: '${{ groups[0].nodes[0].IP_ADDRESS }}'}", "env.A"},
		{"address of the only group", "commands: ['${{ groups[0].nodes[1].IP_ADDRESS }}']\nnodes: 2", ""},
		{"address of a node too many", "commands: ['${{ groups[0].nodes[2].IP_ADDRESS }}']\nnodes: 2", "no node 2"},
		{"address of a group too many", "commands: ['${{groups[1].nodes[0].IP_ADDRESS}}']", "no group 1"},
		{"address of a replica", "commands: ['${{ groups[0].replicas[0].IP_ADDRESS }}']", "not replicas"},
		{"malformed address", "commands: ['${{ groups[0].IP }}']", "must be groups"},
		{"address in groups", "groups: [{commands: [a]}, {nodes: 2, commands: ['${{ groups[1].nodes[1].IP_ADDRESS }}']}]", ""},
		{"wrong address in groups", "groups: [{commands: ['${{ groups[0].nodes[1].IP_ADDRESS }}']}]", "groups.0.commands.0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := DecodeApply("", []byte("type: task\n"+tt.yaml))
			if err != nil {
				t.Fatal(err)
			}
			err = ValidateSubmit(*c.Run.Task, c.Run.Params(), window)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"type: task\nname: train-1\n": "",
		"type: task\n":                "",
		"type: task\nname:\n":         "",
		"type: task\nname: My_Task\n": "f.yml:2:7: name: is not a valid name, found \"My_Task\", allowed: 2 to 41 lowercase letters, digits and hyphens, a letter first",
		"type: task\nname: a\n":       "f.yml:2:7: name: is not a valid name, found \"a\", allowed: 2 to 41 lowercase letters, digits and hyphens, a letter first",
	}
	for text, want := range tests {
		got := ""
		if err := CheckName("f.yml", []byte(text)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
