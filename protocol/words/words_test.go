package words_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/words"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		"":               nil,
		" a  b\t":        {"a", "b"},
		`a "b c" 'd e'f`: {"a", "b c", "d ef"},
		`a\ b "\"" '\'`:  {"a b", `"`, `\`},
		`"" ''`:          {"", ""},
		`"a\nb" "\$x"`:   {`a\nb`, "$x"},
	} {
		got, err := words.Split(line)
		if err != nil {
			t.Errorf("%q: %v", line, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
	for _, line := range []string{`"`, `'`, `a\`} {
		if _, err := words.Split(line); err == nil {
			t.Errorf("%q: no error", line)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add(`sh -c "a \"b\" 'c'" d\ e`)
	f.Fuzz(func(t *testing.T, line string) {
		list, err := words.Split(line)
		if err == nil && len(list) > len(line)+1 {
			t.Errorf("%q has %d words", line, len(list))
		}
	})
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "plain", "two words", "it's", "''", `back\slash`, "$HOME `id` \"x\"", "new\nline"} {
		got, err := words.Split(words.Quote(s))
		if err != nil || len(got) != 1 || got[0] != s {
			t.Errorf("%q became %q, %v", s, got, err)
		}
	}
}
