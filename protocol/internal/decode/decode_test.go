package decode

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustYAML(t *testing.T, text string) *Node {
	t.Helper()
	n, err := YAML("f.yml", []byte(text))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return n
}

// show writes a node in short: what kind it is and its value.
func show(n *Node) string {
	switch n.Kind {
	case Bool:
		return fmt.Sprint("bool ", n.Bool)
	case Int:
		return "int " + n.number()
	case Float:
		return "float " + floatText(n.Float)
	case String:
		return "string " + n.Text
	}
	return n.Kind.name()
}

// The values are those of 0.22.5's loader.
func TestYAML11Scalars(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"yes": "bool true", "No": "bool false", "ON": "bool true", "off": "bool false", "true": "bool true", "tRUE": "string tRUE",
		"y": "string y", "n": "string n", "~": "null", "null": "null", "": "null", "NULL": "null", "nULL": "string nULL",
		"2222:22": "int 133342", "1:30": "int 90", "80:22": "int 4822", "8080:80": "string 8080:80", "-1:30": "int -90", "1:30.5": "float 90.5",
		"0100": "int 64", "0o17": "string 0o17", "0x1F": "int 31", "0b11": "int 3", "1_000": "int 1000", "+5": "int 5", "08": "string 08", "0": "int 0", "-0": "int 0",
		"1e3": "string 1e3", "12e03": "string 12e03", "1.0e+3": "float 1000.0", ".5": "float 0.5", "1.": "float 1.0", "1.5e3": "string 1.5e3", "1_0.5": "float 10.5",
		".inf": "float inf", "-.INF": "float -inf", ".NaN": "float nan",
		"2024-01-01": "a date or binary value", "2024-01-01T10:00:00Z": "a date or binary value", "2024-1-1": "string 2024-1-1",
		"3.10": "float 3.1", "'yes'": "string yes", `"1"`: "string 1", "!!str 1": "string 1", "!!int 1": "int 1",
		"123456789012345678901234567890": "int 123456789012345678901234567890",
	}
	for text, want := range tests {
		if got := show(mustYAML(t, "a: "+text).Lookup("a")); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}

func TestYAMLMergeAndDuplicates(t *testing.T) {
	t.Parallel()
	n := mustYAML(t, "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  a: 3\n  <<: [*x, *y]\nd: 1\nd: 2\n")
	z := n.Lookup("z")
	got := []string{show(z.Lookup("a")), show(z.Lookup("b")), show(z.Lookup("c")), show(n.Lookup("d"))}
	if diff := cmp.Diff([]string{"int 3", "int 1", "int 2", "int 2"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestYAMLFaults(t *testing.T) {
	t.Parallel()
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'i'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.Repeat(fmt.Sprintf("*%c,", c-1), 9))
	}
	tests := []struct{ name, text, want string }{
		{"open list", "a: 1\nb: [1\n", "f.yml:2:1: YAML syntax error"},
		{"bad indentation", "a:\n  - b\n c: d\n", "f.yml:3:1: YAML syntax error"},
		{"tab", "a: 1\n\tb: 1\n", "f.yml:2:1: YAML syntax error"},
		{"tab in a list", "a:\n- b: 1\n\tc: 2\n", "f.yml:3:1: YAML syntax error"},
		{"open quote", "a: 1\nb: 'x\nc: 1\nd: 2\n", "f.yml:2:1: YAML syntax error: found unexpected end of stream"},
		{"inside of a long list", "a: 1\nb: [1,\n 2,\n }\n", "f.yml:4:1: YAML syntax error"},
		{"control character", "a: 1\nb: \x01\nc: 1\n", "f.yml:2:1: YAML syntax error"},
		{"in a second document", "a: 1\n---\nb: 1\nc: ]\nd: 1\n", "f.yml:4:1: YAML syntax error"},
		{"unknown anchor", "a: 1\nb: *c\n", "f.yml:2:1: YAML syntax error: unknown anchor"},
		{"two documents", "a: 1\n---\nb: 1\n", "f.yml:2:1: more than one YAML document"},
		{"foreign tag", "a: 1\nb: !x y\n", "f.yml:2:4: YAML tag !x is not supported"},
		{"tagged list", "a: !!set [b]\n", "f.yml:1:4: YAML tag !!set is not supported"},
		{"value", "a: =\n", "f.yml:1:4: YAML value ="},
		{"key", "[a]: b\n", "f.yml:1:1: a key must be a scalar"},
		{"merge of a scalar", "<<: a\n", "f.yml:1:5: << needs a mapping"},
		{"alias to itself", "a: &a [*a]\n", "f.yml:1:4: alias contains itself"},
		{"bomb", bomb, "document is too large or too deep"},
		{"depth", strings.Repeat("[", 200) + strings.Repeat("]", 200), "document is too large or too deep"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := YAML("f.yml", []byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if _, ok := errors.AsType[Errors](err); !ok {
				t.Errorf("error is a %T", err)
			}
		})
	}
}

func TestJSONFaults(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "{", `{"a":}`, `{"a":1} x`, "[1,]", "nul", strings.Repeat("[", 200)} {
		if _, err := JSON([]byte(text)); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	n, err := JSON([]byte(`{"a": {"b": [1, 2.5, "x", null, true]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(n.Lookup("a").Raw); got != `{"b": [1, 2.5, "x", null, true]}` {
		t.Errorf("raw text %s", got)
	}
}

// readOne reads `v: TEXT`.
func readOne[T any](t *testing.T, text string, read Reader[T]) (T, error) {
	t.Helper()
	return Read("", mustYAML(t, "v: "+text), func(v Value) T {
		o := v.Object()
		defer o.Done()
		return Required(o, "v", read)
	})
}

func TestCoercions(t *testing.T) {
	t.Parallel()
	check := func(kind, text, want string, got any, err error) {
		t.Helper()
		result := fmt.Sprint(got)
		if err != nil {
			result = "error"
		}
		if result != want {
			t.Errorf("%s of %s is %s (%v), want %s", kind, text, result, err, want)
		}
	}
	for text, want := range map[string]string{
		"a": "a", "1": "1", "3.10": "3.1", "1.0e+16": "1e+16", "1.0e-5": "1e-05", "0x1F": "31", "true": "error", "null": "error", "[a]": "error", "2024-01-01": "error",
	} {
		got, err := readOne(t, text, Text)
		check("text", text, want, got, err)
	}
	for text, want := range map[string]string{
		"5": "5", "true": "1", "4.0": "4", "4.5": "error", "'5'": "5", "' 1_000 '": "1000", "'5.0'": "5", "'0x4'": "error", "'4e0'": "error", "null": "error",
		"99999999999999999999": "error", "'__1'": "error", "'-3'": "-3",
	} {
		got, err := readOne(t, text, Integer)
		check("integer", text, want, got, err)
	}
	for text, want := range map[string]string{
		"5": "5", "'1e3'": "1000", "'.5'": "0.5", "true": "1", ".inf": "error", "'nan'": "error", "a": "error", "'0x1p3'": "error", "'1e999'": "error",
	} {
		got, err := readOne(t, text, Number)
		check("number", text, want, got, err)
	}
	for text, want := range map[string]string{
		"yes": "true", "y": "true", "1": "true", "0.0": "false", "'OFF'": "false", "2": "error", "''": "error", "null": "error", "' on'": "error",
	} {
		got, err := readOne(t, text, Boolean)
		check("boolean", text, want, got, err)
	}
}

func TestErrorsSayWhereAndWhat(t *testing.T) {
	t.Parallel()
	read := func(v Value) struct{} {
		o := v.Object()
		defer o.Done()
		Field(o, "count", IntMin(1))
		Required(o, "name", Text)
		Field(o, "policy", Enum("spot", "on-demand"))
		Field(o, "token", func(v Value) int { return Integer(v.Secret()) })
		return struct{}{}
	}
	const text = "count: 0\npolicy: ondemand\ntoken: hush\nnam: x\n"
	_, err := Read("f.yml", mustYAML(t, text), read)
	want := []string{
		"f.yml:1:1: name: required",
		"f.yml:1:8: count: must be >= 1, found 0",
		"f.yml:2:9: policy: must be one of spot, on-demand, found \"ondemand\", did you mean `on-demand`?",
		"f.yml:3:8: token: must be an integer, found a string",
		"f.yml:4:1: nam: unknown field, did you mean `name`?",
	}
	if diff := cmp.Diff(want, strings.Split(fmt.Sprint(err), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	errs, ok := errors.AsType[Errors](err)
	if !ok {
		t.Fatalf("error is a %T", err)
	}
	details := errs[:1].Details()
	if diff := cmp.Diff([]Detail{{"missing", []any{"body", "name"}, "Field required"}}, details); diff != "" {
		t.Errorf("details (-want +got):\n%s", diff)
	}
}
