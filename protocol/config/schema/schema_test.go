package schema

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"dstack/protocol/internal/decode"
)

// compile reads a schema.
func compile(t *testing.T, text []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// corpusCase is a verdict of 0.22.5.
type corpusCase struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	YAML  string `json:"yaml"`
	Valid bool   `json:"valid"`
}

// corpus gives the cases of a kind that are YAML, with their documents.
func corpus(t *testing.T, kind string) map[corpusCase]any {
	t.Helper()
	f, err := os.Open("../testdata/cases.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cases := map[corpusCase]any{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c corpusCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		if c.Kind != kind {
			continue
		}
		root, err := decode.YAML("", []byte(c.YAML))
		if err != nil {
			continue
		}
		text, err := root.JSON()
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		cases[c] = doc
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return cases
}

// The schema accepts all that is valid. Of what is not, it has to reject most:
// rules between fields and inside of texts are beyond it.
func TestAgainstCorpus(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind   string
		schema []byte
		missed int // invalid cases that pass
	}{
		{"apply", Configuration(), 84},
		{"profile", Profiles(), 1},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			t.Parallel()
			s := compile(t, tt.schema)
			var missed []string
			for c, doc := range corpus(t, tt.kind) {
				err := s.Validate(doc)
				switch {
				case c.Valid && err != nil:
					t.Errorf("%s is valid, the schema rejects it: %v\n%s", c.Name, err, c.YAML)
				case !c.Valid && err == nil:
					missed = append(missed, c.Name)
				}
			}
			if len(missed) > tt.missed {
				t.Errorf("%d invalid cases pass, at most %d may: %q", len(missed), tt.missed, missed)
			}
		})
	}
}
