package main

import (
	"os"
	"strings"
	"testing"
)

func TestCorpusIsEqual(t *testing.T) {
	t.Parallel()
	f, err := os.Open("../../protocol/config/testdata/cases.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out strings.Builder
	total, differ, err := compareAll(f, &out)
	if err != nil {
		t.Fatal(err)
	}
	const cases = 458
	if total != cases || differ != 0 {
		t.Errorf("%d cases of %d, %d differ:\n%s", total, cases, differ, out.String())
	}
}

func TestDifferencesAreFound(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, line, want string }{
		{"rejected", `{"kind":"profile","yaml":"x: 1","valid":true,"normalized":{}}`, "must be accepted, is rejected: "},
		{"accepted", `{"kind":"profile","yaml":"profiles: []","valid":false,"error_gist":"no"}`, "must be rejected: no"},
		{"place", `{"kind":"profile","yaml":"profiles: 1","valid":false,"error_gist":"x.y: no"}`, `error must name "x.y"`},
		{"value", `{"kind":"profile","yaml":"profiles: []","valid":true,"normalized":{"profiles":1}}`, "profiles must be 1, is []"},
		{"missing", `{"kind":"profile","yaml":"profiles: []","valid":true,"normalized":{"profiles":[],"a":{}}}`, "a is missing"},
		{"extra", `{"kind":"profile","yaml":"profiles: []","valid":true,"normalized":{}}`, "profiles must not be there"},
		{"equal", `{"kind":"profile","yaml":"profiles: []","valid":true,"normalized":{"profiles":[]}}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			_, differ, err := compareAll(strings.NewReader(tt.line), &out)
			if err != nil {
				t.Fatal(err)
			}
			if (differ == 1) != (tt.want != "") || !strings.Contains(out.String(), tt.want) {
				t.Errorf("%d differ, output %q, want %q", differ, out.String(), tt.want)
			}
		})
	}
	if _, _, err := compareAll(strings.NewReader(`{"kind":"x"}`), &strings.Builder{}); err == nil {
		t.Error("an unknown kind was taken")
	}
}
