package config

import "testing"

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
