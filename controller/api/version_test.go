package api

import "testing"

func TestCheckVersion(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ header, want string }{
		{"", ""}, {"latest", ""}, {"0.0.0", ""}, {"0.0.0.dev1", ""},
		{"0.22.5", ""}, {"0.22.9", ""}, {"0.22.5rc1", ""}, {"0.19.0", ""}, {"v0.21", ""}, {"0.18.44", ""},
		{"0.23.0", "The client/CLI version (0.23.0) is incompatible with the server version (0.22.5)."},
		{"1.0.0", "The client/CLI version (1.0.0) is incompatible with the server version (0.22.5)."},
		{"abc", "Invalid version: abc"}, {"0.22.x", "Invalid version: 0.22.x"},
		{"99999999999999999999.0", "Invalid version: 99999999999999999999.0"},
	} {
		t.Run(tt.header, func(t *testing.T) {
			t.Parallel()
			got := ""
			if _, err := checkVersion(tt.header); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("checkVersion(%q) = %q, want %q", tt.header, got, tt.want)
			}
		})
	}
}

func FuzzParseVersion(f *testing.F) {
	for _, s := range []string{"0.22.5", "latest", "1!2.0rc1.post2.dev3+local", "v1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, ok := parseVersion(s)
		if !ok && v.sent {
			t.Errorf("parseVersion(%q): malformed, but has a release", s)
		}
	})
}
