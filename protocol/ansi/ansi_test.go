package ansi_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"dstack/protocol/ansi"
)

func TestAppend(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"plain text stays", "hello\r\n\tworld\b\x07", "hello\r\n\tworld\b\x07"},
		{"UTF-8 stays, bytes that look like C1 included", "gr\u00fc\u00dfe \u009b \u4e16\u754c \xff", "gr\u00fc\u00dfe \u009b \u4e16\u754c \xff"},
		{"colours", "\x1b[1;31mred\x1b[0m!", "red!"},
		{"private and intermediate bytes", "a\x1b[?25lb\x1b[0 qc", "abc"},
		{"two bytes", "a\x1b7b\x1bMc\x1b=d", "abcd"},
		{"character set", "a\x1b(Bb\x1b#8c", "abc"},
		{"title ended by BEL", "a\x1b]0;title\x07b", "ab"},
		{"link ended by ST", "\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\", "text"},
		{"device control", "a\x1bPq#0;2\x07\x1b\\b", "ab"},
		{"application command", "a\x1b_G\x1b\\b\x1b^p\x1b\\c\x1bXs\x1b\\d", "abcd"},
		{"new line within CSI", "a\x1b[3\n1mb", "a\nb"},
		{"CAN and SUB cancel", "a\x1b[3\x18b\x1b]x\x1ac", "abc"},
		{"ESC starts anew", "a\x1b[3\x1b[1mb\x1b\x1b[2mc", "abc"},
		{"open string ends with its line", "a\x1b]never closed\nb", "a\nb"},
		{"text right after ESC", "a\x1b\u00e9b", "a\u00e9b"},
		{"DEL within CSI", "a\x1b[3\x7f1mb", "ab"},
		{"open at the end", "a\x1b[3", "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var s ansi.Stripper
			if diff := cmp.Diff(tt.want, string(s.Append(nil, []byte(tt.in)))); diff != "" {
				t.Errorf("Append(%q) (-want +got):\n%s", tt.in, diff)
			}
		})
	}
}

// pieces draws text in which escape sequences are frequent.
func pieces() *rapid.Generator[[]byte] {
	part := rapid.SampledFrom([]string{
		"\x1b", "[", "]", "P", "\\", "\x07", "31", ";", "m", "\n", "text", "\x18", "\u00e9", "(", "B", "\x7f",
	})
	return rapid.Map(rapid.SliceOf(part), func(p []string) []byte {
		var b bytes.Buffer
		for _, s := range p {
			b.WriteString(s)
		}
		return b.Bytes()
	})
}

func TestChunkingDoesNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := pieces().Draw(t, "in")
		var whole, cut ansi.Stripper
		want := whole.Append(nil, in)
		var got []byte
		for rest := in; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			got = cut.Append(got, rest[:n])
			rest = rest[n:]
		}
		if !bytes.Equal(want, got) {
			t.Fatalf("in one piece %q, in several %q", want, got)
		}
	})
}

func FuzzAppend(f *testing.F) {
	f.Add([]byte("a\x1b[1mb\x1b]0;t\x07c"), 3)
	f.Fuzz(func(t *testing.T, in []byte, at int) {
		if at < 0 || at > len(in) {
			at = len(in) / 2
		}
		var whole, cut ansi.Stripper
		want := whole.Append(nil, in)
		got := cut.Append(cut.Append(nil, in[:at]), in[at:])
		if !bytes.Equal(want, got) {
			t.Fatalf("in one piece %q, cut at %d %q", want, at, got)
		}
		if bytes.IndexByte(want, 0x1b) >= 0 {
			t.Fatalf("an escape is left in %q", want)
		}
		if bytes.Count(want, []byte("\n")) != bytes.Count(in, []byte("\n")) {
			t.Fatalf("lines were lost: %q from %q", want, in)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	in := bytes.Repeat([]byte("\x1b[32mepoch 12\x1b[0m loss=0.1234 accuracy=0.98 and some more text\r\n"), 500)
	dst := make([]byte, 0, len(in))
	b.SetBytes(int64(len(in)))
	var s ansi.Stripper
	for b.Loop() {
		dst = s.Append(dst[:0], in)
	}
}
