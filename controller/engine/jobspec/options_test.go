package jobspec

import (
	"testing"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

// TestPublicImage: a machine fetches while it boots what the job will ask for,
// and nothing that needs a password.
func TestPublicImage(t *testing.T) {
	t.Parallel()
	login := &config.RegistryAuth{Username: "u", Password: "p"}
	for name, c := range map[string]struct {
		opts   Options
		image  string
		auth   *config.RegistryAuth
		want   string
		public bool
	}{
		"plain":                             {Options{}, "busybox", nil, "busybox", true},
		"default registry":                  {Options{Registry: "mirror.example/"}, "busybox:1", nil, "mirror.example/busybox:1", true},
		"default registry with a password":  {Options{Registry: "mirror.example", RegistryUsername: "u", RegistryPassword: "p"}, "busybox", nil, "mirror.example/busybox", false},
		"another registry than the default": {Options{Registry: "mirror.example", RegistryUsername: "u", RegistryPassword: "p"}, "reg.example/a", nil, "reg.example/a", true},
		"the job's own password":            {Options{}, "busybox", login, "busybox", false},
		"a secret's value":                  {Options{}, "${{ secrets.image }}", nil, "${{ secrets.image }}", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, public := c.opts.PublicImage(api.JobSpec{ImageName: c.image, RegistryAuth: c.auth})
			if got != c.want || public != c.public {
				t.Errorf("%q, public %v; want %q, %v", got, public, c.want, c.public)
			}
		})
	}
}
