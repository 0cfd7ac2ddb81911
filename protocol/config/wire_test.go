package config

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// corpusCase is one verdict of the real 0.22.5 parser
// (spec: configuration-cases.jsonl).
type corpusCase struct {
	Name       string          `json:"name"`
	Kind       string          `json:"kind"`
	YAML       string          `json:"yaml"`
	Valid      bool            `json:"valid"`
	Normalized json.RawMessage `json:"normalized"`
	ErrorGist  string          `json:"error_gist"`
}

func corpus(t testing.TB, kind string) []corpusCase {
	t.Helper()
	f, err := os.Open("testdata/cases.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var cases []corpusCase
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c corpusCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		if c.Kind == kind {
			cases = append(cases, c)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatalf("no cases of kind %q", kind)
	}
	return cases
}

// diffJSON compares two documents by value.
func diffJSON(t testing.TB, want, got []byte) string {
	t.Helper()
	var w, g any
	if err := json.Unmarshal(want, &w); err != nil {
		t.Fatalf("want is no JSON: %v", err)
	}
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatalf("got is no JSON: %v", err)
	}
	return cmp.Diff(w, g)
}

func TestWireRoundTrip(t *testing.T) {
	t.Parallel()
	for _, c := range corpus(t, "apply") {
		if !c.Valid {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			var head struct {
				Type string `json:"type"`
			}
			if err := json.Unmarshal(c.Normalized, &head); err != nil {
				t.Fatal(err)
			}
			var v any = &Run{}
			switch head.Type {
			case TypeFleet:
				v = &Fleet{}
			case TypeGateway:
				v = &Gateway{}
			case TypeVolume:
				v = &Volume{}
			case TypePreset:
				v = &Preset{}
			}
			if err := json.Unmarshal(c.Normalized, v); err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			if diff := diffJSON(t, c.Normalized, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
