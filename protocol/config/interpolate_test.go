package config

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
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

func TestInterpolateService(t *testing.T) {
	t.Parallel()
	url, body := "/${{ env.KEY }}", "${{ secrets.token }} ${{ env.KEY }}"
	s := &Service{
		Commands: List[string]{"serve ${{ run.args }}"},
		Groups:   []ReplicaGroup{{Commands: List[string]{"worker ${{ run.args }} ${{ groups[0].replicas[0].IP_ADDRESS }}"}}},
		Probes:   []Probe{{URL: &url, Body: &body, Headers: List[ProbeHeader]{{Name: "X", Value: "${{env.KEY}}"}}}},
		RunBase:  RunBase{Env: Env{"KEY": {Value: "v"}}, RegistryAuth: &RegistryAuth{Username: "${{ env.KEY }}", Password: "${{ secrets.p }}"}},
	}
	if err := (Run{Service: s}).InterpolateRun("--lr 1"); err != nil {
		t.Fatal(err)
	}
	got := []string{
		s.Commands[0], s.Groups[0].Commands[0], *s.Probes[0].URL, *s.Probes[0].Body, s.Probes[0].Headers[0].Value,
		s.RegistryAuth.Username, s.RegistryAuth.Password,
	}
	want := []string{
		"serve --lr 1", "worker --lr 1 ${{ groups[0].replicas[0].IP_ADDRESS }}", "/v", "${{ secrets.token }} v", "v", "v", "${{ secrets.p }}",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	bad := &Service{Commands: List[string]{"${{ foo.bar }}"}}
	if err := (Run{Service: bad}).InterpolateRun(""); err == nil {
		t.Error("an unknown variable was accepted")
	}
}
