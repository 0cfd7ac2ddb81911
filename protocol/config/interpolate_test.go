package config

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
)

// The cases were made by running 0.22.5 with run.args=ARGS, env.A=1 and
// secrets kept.
func TestInterpolateLike0225(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/interpolate.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	values := map[string]string{"run.args": "ARGS", "env.A": "1"}
	lookup := func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var c struct {
			In    string `json:"in"`
			Out   string `json:"out"`
			Error bool   `json:"error"`
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		got, err := Interpolate(c.In, lookup, secretName.MatchString)
		if (err != nil) != c.Error || got != c.Out {
			t.Errorf("Interpolate(%q) = %q, %v; want %q, error %v", c.In, got, err, c.Out, c.Error)
		}
	}
}
