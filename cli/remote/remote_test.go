package remote

import (
	"testing"

	"dstack/protocol/jobssh"
)

func TestLine(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]jobssh.Program{
		"":                                {},
		"exec 'ls'":                       {Args: []string{"ls"}},
		`exec 'a b' '' '$HOME' 'it'\''s'`: {Args: []string{"a b", "", "$HOME", "it's"}},
		"cd '/a b' && exec 'pwd'":         {Args: []string{"pwd"}, Dir: "/a b"},
		"export A='x=y '; export B=''; exec 'env'": {Args: []string{"env"}, Env: []string{"A=x=y ", "B="}},
		`cd '/x' && exec "${SHELL:-/bin/sh}" -l`:   {Dir: "/x"},
	} {
		if got := Line(p); got != want {
			t.Errorf("%+v: %s, want %s", p, got, want)
		}
	}
}
