package repo

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func same(host string) string { return host }

// The expected values are those of the client 0.22.5.
func TestParseURL(t *testing.T) {
	t.Parallel()
	type row struct{ https, ssh, name, id string }
	tests := map[string]row{
		"https://github.com/dstackai/dstack":          {"https://github.com/dstackai/dstack", "ssh://git@github.com/dstackai/dstack", "dstack", "dstack-nizdmsg0"},
		"https://github.com/dstackai/dstack.git/":     {"https://github.com/dstackai/dstack.git/", "ssh://git@github.com/dstackai/dstack.git/", "dstack", "dstack-nizdmsg0"},
		"git@github.com:dstackai/dstack.git":          {"https://github.com/dstackai/dstack.git", "ssh://git@github.com/dstackai/dstack.git", "dstack", "dstack-nizdmsg0"},
		"ssh://git@github.com:22/dstackai/dstack.git": {"https://github.com/dstackai/dstack.git", "ssh://git@github.com:22/dstackai/dstack.git", "dstack", "dstack-nizdmsg0"},
		"https://user:pw@github.com:8443/a/b.git":     {"https://github.com:8443/a/b.git", "ssh://git@github.com/a/b.git", "b", ""},
		"https://127.0.0.1:3979/a/b.git":              {"https://127.0.0.1:3979/a/b.git", "ssh://git@127.0.0.1/a/b.git", "b", "b-wpk5pk08"},
		"git@github.com:22/a/b":                       {"https://github.com/22/a/b", "ssh://git@github.com/22/a/b", "b", ""},
		"https://github.com":                          {"https://github.com/", "ssh://git@github.com/", "unknown", ""},
		"a@b:c:d":                                     {"https://b/c:d", "ssh://a@b/c:d", "c:d", ""},
		"https://h/a?x=1#f":                           {"https://h/a", "ssh://git@h/a", "a", ""},
		"https://H.Com/A/B":                           {"https://h.com/A/B", "ssh://git@h.com/A/B", "B", ""},
		"git@github.com:/a/b":                         {"https://github.com//a/b", "ssh://git@github.com//a/b", "b", ""},
		"ssh://u@h:2222/~/x":                          {"https://h/~/x", "ssh://u@h:2222/~/x", "x", ""},
		"https://h//a//b.git//":                       {"https://h//a//b.git//", "ssh://git@h//a//b.git//", "b", ""},
		"user@host:path/repo.git.git":                 {"https://host/path/repo.git.git", "ssh://user@host/path/repo.git.git", "repo.git", ""},
		"https://dev.azure.com/o/p/_git/r":            {"https://dev.azure.com/o/p/_git/r", "ssh://git@dev.azure.com/o/p/_git/r", "r", ""},
		"https://127.0.0.1:3979/a/b.git:/p":           {"https://127.0.0.1:3979/a/b.git:/p", "ssh://git@127.0.0.1/a/b.git:/p", "p", "p-r2h98ihr"},
	}
	for text, want := range tests {
		u, err := ParseURL(text, same)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := row{u.HTTPS(), u.SSH(), u.Name(), u.ID()}
		if want.id == "" {
			got.id = ""
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(row{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"github.com:a/b": "Unsupported URL scheme github.com",
		"http://h/a":     "Unsupported URL scheme http",
		"git://h/a":      "Unsupported URL scheme git",
		"file:///x/y":    "Unsupported URL scheme file",
		"/local/path":    "Could not parse git URL /local/path",
		"./x":            "Could not parse git URL ./x",
		"C:/x":           "Unsupported URL scheme c",
		"git@host:":      "Could not parse git URL git@host:",
		"foo":            "Could not parse git URL foo",
		"":               "Could not parse git URL ",
		"https://h:x/a":  "Could not parse git URL https://h:x/a",
		"ssh://":         "Could not parse git URL ssh://",
	} {
		if _, err := ParseURL(text, same); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestSSHAlias(t *testing.T) {
	t.Parallel()
	u, err := ParseURL("git@work:a/b", func(host string) string { return strings.Replace(host, "work", "github.com", 1) })
	if err != nil || u.HTTPS() != "https://github.com/a/b" || u.Alias != "work" {
		t.Errorf("%+v: %v", u, err)
	}
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{"https://github.com/a/b.git", "git@h:p", "ssh://u@h:1/p", "a@b:c:d", "::", "https://[::1]/x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseURL(text, same)
		if err != nil {
			return
		}
		id := u.ID()
		if i := strings.LastIndexByte(id, '-'); len(id)-i-1 != idDigits || u.Name() == "" {
			t.Errorf("%q has id %q", text, id)
		}
		again, err := ParseURL(u.HTTPS(), same)
		if err == nil && again.Path != u.Path {
			t.Errorf("%q: %q became %q", text, u.Path, again.Path)
		}
	})
}
