package reason

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"dstack/protocol/api"
)

// constants lists the values of all constants of a type that a folder declares.
func constants(t *testing.T, folder, typ string) []string {
	t.Helper()
	packages, err := parser.ParseDir(token.NewFileSet(), folder, nil, parser.SkipObjectResolution) //nolint:staticcheck // types are not needed
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range packages {
		ast.Inspect(p, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if name, ok := spec.Type.(*ast.Ident); !ok || name.Name != typ {
				return true
			}
			for _, v := range spec.Values {
				if lit, ok := v.(*ast.BasicLit); ok {
					text, err := strconv.Unquote(lit.Value)
					if err != nil {
						t.Fatal(err)
					}
					out = append(out, text)
				}
			}
			return true
		})
	}
	return out
}

// TestEveryReasonHasASentence: of every type of reason that the code declares.
func TestEveryReasonHasASentence(t *testing.T) {
	t.Parallel()
	for typ, c := range map[string]struct {
		folder string
		least  int
		of     func(string) (Sentence, bool)
	}{
		"RunReason":      {"../api", 7, func(s string) (Sentence, bool) { return Run(api.RunReason(s)) }},
		"JobReason":      {"../api", 21, func(s string) (Sentence, bool) { return Job(api.JobReason(s)) }},
		"InstanceReason": {"../api", 5, func(s string) (Sentence, bool) { return Instance(api.InstanceReason(s)) }},
		"Rejection":      {".", 34, func(s string) (Sentence, bool) { return Place(Rejection(s)) }},
		"Wait":           {".", 13, func(s string) (Sentence, bool) { return Waiting(Wait(s)) }},
	} {
		all := constants(t, c.folder, typ)
		if len(all) < c.least {
			t.Errorf("%s: only %d constants found, at least %d are known", typ, len(all), c.least)
		}
		for _, value := range all {
			s, ok := c.of(value)
			switch {
			case !ok:
				t.Errorf("%s %q has no sentence", typ, value)
			case s.Cause == "" || strings.HasSuffix(s.Cause, "."):
				t.Errorf("%s %q: the cause %q is no clause", typ, value, s.Cause)
			case !strings.HasSuffix(s.Next, "."):
				t.Errorf("%s %q: the next step %q is no sentence", typ, value, s.Next)
			}
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	got := Sentence{"it is full", "Wait."}.Text("Host h1")
	if want := "Host h1: it is full. Wait."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
