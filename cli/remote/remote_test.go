package remote

import (
	"os/exec"
	"strings"
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

// FuzzLine has a shell read a line: arguments, folder and variables arrive.
func FuzzLine(f *testing.F) {
	f.Add("a b", "it's")
	f.Add("$HOME `x` \\ \"", "*\n;")
	f.Add("", "-n")
	f.Fuzz(func(t *testing.T, arg, value string) {
		if strings.ContainsRune(arg+value, 0) {
			return
		}
		line := Line(jobssh.Program{Args: []string{"/bin/sh", "-c", `printf '%s|%s|%s' "$1" "$A" "$PWD"`, "sh", arg}, Dir: "/tmp", Env: []string{"A=" + value}})
		out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", line).CombinedOutput()
		if want := arg + "|" + value + "|/tmp"; err != nil || string(out) != want {
			t.Errorf("%s gives %q, %v, want %q", line, out, err, want)
		}
	})
}
