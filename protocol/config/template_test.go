package config

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestTemplate(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want, fault string }{
		{"all", "type: template\nname: a\ntitle: 1\ndescription: d\nparameters: [{type: name}, {type: env, value: 1}]\nconfiguration: {type: task, 1: 2024-01-01, f: .inf}",
			`{"type":"template","name":"a","title":"1","description":"d","parameters":[{"type":"name"},{"type":"env","title":null,"name":null,"value":"1"}],"configuration":{"1":"2024-01-01","f":null,"type":"task"}}`, ""},
		{"no parameters", "type: template\nname: a\ntitle: b\nconfiguration: {}",
			`{"type":"template","name":"a","title":"b","description":null,"parameters":[],"configuration":{}}`, ""},
		{"no type", "name: a\ntitle: b\nconfiguration: {}", "", "type: required"},
		{"other type", "type: task\nname: a\ntitle: b\nconfiguration: {}", "", "type: must be template"},
		{"parameter", "type: template\nname: a\ntitle: b\nconfiguration: {}\nparameters: [{type: idee}]", "", "did you mean `ide`?"},
		{"field of another parameter", "type: template\nname: a\ntitle: b\nconfiguration: {}\nparameters: [{type: ide, title: x}]", "", "parameters.0.title: unknown field"},
		{"configuration", "type: template\nname: a\ntitle: b\nconfiguration: []", "", "configuration: must be a mapping"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := DecodeTemplate("t.yml", []byte(tt.text))
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("error %v, want %q", err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if string(text) != tt.want {
				t.Errorf("got  %s\nwant %s", text, tt.want)
			}
		})
	}
}
