package jobspec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

func TestWithSecrets(t *testing.T) {
	t.Parallel()
	spec := api.JobSpec{
		Commands: []string{"echo ${{ secrets.TOKEN }}"},
		Env: map[string]string{
			"A": "${{ secrets.TOKEN }}", "B": "x-${{secrets.1-b}}-${{ secrets.TOKEN }}", "C": "plain $HOME", "D": "a$$b", "E": "",
		},
		RegistryAuth: &config.RegistryAuth{Username: "${{ secrets.USER }}", Password: "${{ secrets.TOKEN }}"},
	}
	if diff := cmp.Diff([]string{"1-b", "TOKEN", "USER"}, SecretNames(spec)); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	before := api.JobSpec{Commands: spec.Commands, Env: map[string]string{}, RegistryAuth: &config.RegistryAuth{}}
	for k, v := range spec.Env {
		before.Env[k] = v
	}
	*before.RegistryAuth = *spec.RegistryAuth
	got, err := WithSecrets(spec, map[string]string{"TOKEN": "${{ secrets.USER }}$$", "1-b": "", "USER": "me"})
	if err != nil {
		t.Fatal(err)
	}
	want := before
	want.Env = map[string]string{
		// A value is not looked into again.
		"A": "${{ secrets.USER }}$$", "B": "x--${{ secrets.USER }}$$", "C": "plain $HOME", "D": "a$b", "E": "",
	}
	want.RegistryAuth = &config.RegistryAuth{Username: "me", Password: "${{ secrets.USER }}$$"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("filled in (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, spec); diff != "" {
		t.Errorf("the given job changed (-want +got):\n%s", diff)
	}
}

func TestWithoutSecrets(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ value, want string }{
		"missing":           {"${{ secrets.NOPE }}", "Failed to interpolate due to missing vars: ['secrets.NOPE']; create what is missing with `dstack secret set NOPE VALUE`"},
		"other namespace":   {"${{ env.X }}${{ secrets.NOPE }}", "Failed to interpolate due to missing vars: ['env.X', 'secrets.NOPE']; only secrets can be referred to here"},
		"not closed":        {"${{ secrets.X", "env A: no closing }} after \"${{ secrets.X\""},
		"no name":           {"${{ }}", "env A: illegal name"},
		"other case":        {"${{ secrets.known }}", "missing vars: ['secrets.known']"},
		"three parts":       {"${{ secrets.a.b }}", "env A: illegal name"},
		"one that is known": {"${{ secrets.KNOWN }}", ""},
	} {
		_, err := WithSecrets(api.JobSpec{Env: map[string]string{"A": tt.value}}, map[string]string{"KNOWN": "v"})
		switch {
		case tt.want == "" && err == nil:
		case err == nil || tt.want == "" || !strings.Contains(err.Error(), tt.want):
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
