package userconfig

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/config"
)

func TestFileIsWrittenSortedPrivateAndWhole(t *testing.T) {
	t.Parallel()
	path := Path(t.TempDir())
	f, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Put(config.ClientProject{Name: "main", URL: "http://localhost:3000", Token: "t"})
	f.Put(config.ClientProject{Name: "other", URL: "http://other", Token: "yes"})
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const want = `projects:
    - default: true
      name: main
      token: t
      url: http://localhost:3000
    - default: false
      name: other
      token: "yes"
      url: http://other
`
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left over: %v, %v", left, err)
	}
	again, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.Projects(), again.Projects()); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestDefaultProject(t *testing.T) {
	t.Parallel()
	f := &File{}
	name := func() string {
		p, _ := f.Project("")
		return p.Name
	}
	f.Put(config.ClientProject{Name: "a"})
	f.Put(config.ClientProject{Name: "b"})
	if name() != "a" {
		t.Errorf("default %q, want the first added", name())
	}
	f.Put(config.ClientProject{Name: "a", Token: "new"})
	if name() != "a" {
		t.Errorf("default %q, want a still", name())
	}
	f.Put(config.ClientProject{Name: "b", Default: true})
	if name() != "b" {
		t.Errorf("default %q, want b", name())
	}
	if f.SetDefault("c") || name() != "b" {
		t.Errorf("default %q after an unknown name, want b", name())
	}
	f.Delete("b")
	if name() != "" {
		t.Errorf("default %q, want none", name())
	}
}

func TestInvalidFileIsAnErrorAndStays(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yml")
	const text = "projects:\n- name: main\n  url: http://x\n  token: secret\n  tokn: x\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	if _, ok := errors.AsType[config.Errors](err); !ok {
		t.Fatalf("error %v, want config.Errors", err)
	}
	want := path + ":5:3: projects.0.tokn: unknown field, did you mean `token`?"
	if err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	f := &File{}
	f.Put(config.ClientProject{Name: "main", URL: "http://file", Token: "file"})
	tests := []struct {
		name, project string
		env           map[string]string
		want          Target
		fails         bool
	}{
		{"default", "", nil, Target{"http://file", "file", "main"}, false},
		{"named", "main", nil, Target{"http://file", "file", "main"}, false},
		{"unknown", "x", nil, Target{}, true},
		{"token over file", "", map[string]string{"DSTACK_TOKEN": "env"}, Target{"http://file", "env", "main"}, false},
		{"environment", "p", map[string]string{"DSTACK_TOKEN": "env", "DSTACK_SERVER_URL": "http://env"}, Target{"http://env", "env", "p"}, false},
		{"environment without project", "", map[string]string{"DSTACK_TOKEN": "env", "DSTACK_SERVER_URL": "http://env"}, Target{}, true},
		{"url alone", "x", map[string]string{"DSTACK_SERVER_URL": "http://env"}, Target{}, true},
		{"url alone with a known project", "", map[string]string{"DSTACK_SERVER_URL": "http://env"}, Target{"http://file", "file", "main"}, false},
		{"project of the environment", "", map[string]string{"DSTACK_PROJECT": "x"}, Target{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Resolve(f, tt.project, func(k string) (string, bool) {
				v, ok := tt.env[k]
				return v, ok
			})
			if (err != nil) != tt.fails || got != tt.want {
				t.Errorf("Resolve = %v, %v; want %v, error %v", got, err, tt.want, tt.fails)
			}
		})
	}
}

func TestLoadProfile(t *testing.T) {
	t.Parallel()
	here, home := t.TempDir(), t.TempDir()
	write := func(folder, name, text string) {
		if err := os.MkdirAll(filepath.Join(folder, ".dstack"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, ".dstack", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(here, "profiles.yaml", "profiles: [{name: a}, {name: b, max_price: 1}]")
	write(home, "profiles.yml", "profiles: [{name: b}, {name: c, default: true}]")
	tests := []struct {
		name   string
		choice config.ProfileChoice
		want   string
		fails  bool
	}{
		{"default of home", config.ProfileChoice{}, "c", false},
		{"named in both: here wins", config.ProfileChoice{Name: "b"}, "b", false},
		{"flag over environment", config.ProfileChoice{Name: "a", EnvName: "c"}, "a", false},
		{"environment", config.ProfileChoice{EnvName: "a"}, "a", false},
		{"none over all", config.ProfileChoice{None: true, Name: "a"}, "no-profile", false},
		{"flag over no profile of the environment", config.ProfileChoice{Name: "a", EnvNone: "on"}, "a", false},
		{"no profile of the environment", config.ProfileChoice{EnvName: "a", EnvNone: "1"}, "no-profile", false},
		{"bad flag", config.ProfileChoice{EnvNone: "maybe"}, "", true},
		{"unknown", config.ProfileChoice{Name: "x"}, "", true},
	}
	for _, tt := range tests {
		got, err := LoadProfile(tt.choice, here, home)
		if (err != nil) != tt.fails || got.Name != tt.want {
			t.Errorf("%s: profile %q, %v; want %q", tt.name, got.Name, err, tt.want)
		}
	}
	if got, err := LoadProfile(config.ProfileChoice{}, t.TempDir(), t.TempDir()); err != nil || got.Name != "default" {
		t.Errorf("without files: %q, %v", got.Name, err)
	}
}
