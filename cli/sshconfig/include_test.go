package sshconfig

import (
	"bytes"
	"testing"
)

var home = pathStyle{home: "/home/u", tilde: true}

func hasOurs(patterns []string) bool { return home.includes(patterns, "/home/u/.dstack/ssh/config") }

func TestAddInclude(t *testing.T) {
	t.Parallel()
	const line = "Include ~/.dstack/ssh/config"
	tests := []struct{ name, file, want string }{
		{"empty", "", line + "\n"},
		{"no end of line", "Host a\n  User x", line + "\nHost a\n  User x"},
		{"line ends of Windows", "Host a\r\n", line + "\r\nHost a\r\n"},
		{"byte order mark", "\xef\xbb\xbfHost a\n", "\xef\xbb\xbf" + line + "\nHost a\n"},
		{"there", "# mine\n\n" + line + "\nHost a\n", ""},
		{"there, absolute", "Include /home/u/.dstack/ssh/config\n", ""},
		{"there, other spelling", "\tINCLUDE = \"/home/u/.dstack//ssh/config\" # dstack\r\n", ""},
		{"there, one of several", "Include other ~/.dstack/ssh/config", ""},
		{"there, relative", "Include ../.dstack/ssh/config", ""},
		{"there, a pattern", "Include ~/.dstack/ssh/conf*\n", ""},
		{"of other files", "Include ~/.ssh/conf.d/* ~/.dstack/ssh/config.d\n", line + "\nInclude ~/.ssh/conf.d/* ~/.dstack/ssh/config.d\n"},
		{"a comment", "#" + line + "\n", line + "\n#" + line + "\n"},
		{"for one host", "Host a\n  " + line + "\n", line + "\nHost a\n  " + line + "\n"},
		{"below Match", "match user x\n" + line + "\n", line + "\nmatch user x\n" + line + "\n"},
		{"without a value", "Include\nInclude \"\n", line + "\nInclude\nInclude \"\n"},
		{"a bad pattern", "Include [\n", line + "\nInclude [\n"},
	}
	for _, tt := range tests {
		want := tt.want
		if want == "" {
			want = tt.file
		}
		got := addInclude([]byte(tt.file), line, hasOurs)
		if string(got) != want {
			t.Errorf("%s: got %q, want %q", tt.name, got, want)
		}
		if again := addInclude(got, line, hasOurs); !bytes.Equal(again, got) {
			t.Errorf("%s: twice: %q", tt.name, again)
		}
	}
}

// TestOtherHome: where HOME is not the user's home, ~ is another folder for
// ssh.
func TestOtherHome(t *testing.T) {
	t.Parallel()
	s := pathStyle{home: "/tmp/my home"}
	path := "/tmp/my home/.dstack/ssh/config"
	if s.includes([]string{"~/.dstack/ssh/config"}, path) {
		t.Error("~ is taken for HOME")
	}
	got, err := s.include(path)
	if err != nil || got != `"/tmp/my home/.dstack/ssh/config"` {
		t.Errorf("got %s, %v", got, err)
	}
	if !s.includes(splitWords("Include " + got)[1:], path) {
		t.Errorf("%s is not recognised", got)
	}
	for _, bad := range []string{"/tmp/a\nb", "/tmp/${HOME}"} {
		if _, err := s.include(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzInclude(f *testing.F) {
	for _, other := range others {
		f.Add([]byte(other))
	}
	f.Add([]byte("Include ~/.dstack/ssh/config"))
	f.Fuzz(func(t *testing.T, file []byte) {
		got := addInclude(file, "Include ~/.dstack/ssh/config", hasOurs)
		if again := addInclude(got, "Include ~/.dstack/ssh/config", hasOurs); !bytes.Equal(again, got) {
			t.Fatalf("twice: %q, then %q", got, again)
		}
		if !bytes.HasSuffix(got, bytes.TrimPrefix(file, byteOrderMark)) {
			t.Fatalf("%q becomes %q", file, got)
		}
	})
}
