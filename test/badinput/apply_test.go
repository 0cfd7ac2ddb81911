//go:build e2e

package badinput

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dstack/test/lab"
)

// TestConfigurationFaults applies files with faults. Each line names the
// place, the field, what is wrong and what is allowed.
func TestConfigurationFaults(t *testing.T) {
	tests := map[string]struct{ yaml, want string }{
		"unknown field": {
			"type: task\nname: bad\ncomands: [echo]\ncommands: [echo hi]\n",
			"bad.yml:3:1: comands: unknown field, did you mean `commands`?",
		},
		"unknown field below": {
			"type: task\ncommands: [a]\nresources:\n  cpus: 2\n",
			"bad.yml:4:3: resources.cpus: unknown field, did you mean `cpu`?",
		},
		"wrong type": {
			"type: task\ncommands: [a]\nnodes: x\n",
			`bad.yml:3:8: nodes: must be an integer, found "x"`,
		},
		"wrong type below": {
			"type: task\ncommands: [a]\nenv: {A: [1]}\n",
			"bad.yml:3:10: env.A: must be a string, found a list",
		},
		"range upside down": {
			"type: task\ncommands: [a]\nresources: {memory: 5..2GB}\n",
			`bad.yml:3:21: resources.memory: range has its minimum above its maximum, found "5..2GB"`,
		},
		"range unreadable": {
			"type: task\ncommands: [a]\nresources: {memory: lots}\n",
			`bad.yml:3:21: resources.memory.min: must be a size, found "lots", allowed: a number with MB, GB or TB`,
		},
		"duration": {
			"type: task\ncommands: [a]\nmax_duration: soon\n",
			`bad.yml:3:15: max_duration: must be a duration, found "soon", allowed: seconds or a number with s, m, h, d or w, such as 90m`,
		},
		"port": {
			"type: task\ncommands: [a]\nports: [99999]\n",
			"bad.yml:3:9: ports.0.local_port: must be <= 65535, found 99999",
		},
		"several at once": {
			"type: task\ncommands: [a]\nnodes: x\nresources: {cpu: abc}\n",
			"bad.yml:3:8: nodes: must be an integer, found \"x\"\n" +
				`bad.yml:4:18: resources.cpu: must be a CPU architecture, found "abc", allowed: x86 or arm`,
		},
		"type": {
			"type: taks\n",
			"bad.yml:1:7: type: must be one of dev-environment, task, service, fleet, gateway, volume, preset, found \"taks\", did you mean `task`?",
		},
		"no type": {
			"commands: [a]\n",
			"bad.yml:1:1: type is required, allowed: dev-environment, task, service, fleet, gateway, volume, preset",
		},
		"no commands and no image": {
			"type: task\nname: bad\n",
			"bad.yml:1:1: Either `commands` or `image` must be set",
		},
		"name": {
			"type: task\nname: My_Task\ncommands: [a]\n",
			`bad.yml:2:7: name: is not a valid name, found "My_Task", allowed: 2 to 41 lowercase letters, digits and hyphens, a letter first`,
		},
		"hosts missing": {
			"type: fleet\nname: lab\nssh_config: {user: u}\n",
			"bad.yml:3:13: ssh_config.hosts: required",
		},
		"syntax": {
			"type: task\ncommands: [a\nname: x\n",
			"bad.yml:2:1: YAML syntax error: did not find expected ',' or ']'",
		},
		"empty file": {
			"",
			"bad.yml:1:1: must be a mapping with a `type`, found null",
		},
		"no text": {
			"\x00\x01\x02",
			"bad.yml:1:1: YAML syntax error: control characters are not allowed",
		},
		"aliases that explode": {
			"a: &a [x,x,x,x,x,x,x,x,x]\n" + bomb("abcdefgh") + "type: task\n",
			"bad.yml:1:8: document is too large or too deep",
		},
	}
	defer quiet(t, shared)()
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := user(t)
			write(t, filepath.Join(c.dir, "bad.yml"), tt.yaml)
			refuses(t, c.dstack(t, "apply", "-f", "bad.yml", "-y"), tt.want)
		})
	}
}

// bomb is YAML whose every line repeats the one before nine times.
func bomb(names string) string {
	var b strings.Builder
	for i := 1; i < len(names); i++ {
		alias := "*" + names[i-1:i]
		b.WriteString(names[i:i+1] + ": &" + names[i:i+1] + " [" + strings.Repeat(alias+",", 8) + alias + "]\n")
	}
	return b.String()
}

// TestFileFaults gives apply files that cannot be read.
func TestFileFaults(t *testing.T) {
	c := user(t)
	tests := map[string]struct {
		args []string
		want string
	}{
		"missing": {[]string{"-f", "nope.yml"}, "Configuration file nope.yml does not exist"},
		"folder":  {[]string{"-f", "/tmp"}, "Failed to load configuration from /tmp: is a directory"},
		"below a file": {
			[]string{"-f", "/etc/passwd/x.yml"},
			"Failed to load configuration from /etc/passwd/x.yml: not a directory",
		},
		"none": {nil, "No configuration file specified via `-f` and no default .dstack.yml configuration found"},
		"another file": {
			[]string{"-f", "/etc/passwd"},
			"/etc/passwd:~",
		},
	}
	defer quiet(t, shared)()
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			refuses(t, c.dstack(t, append([]string{"apply", "-y"}, tt.args...)...), tt.want)
		})
	}
	t.Run("standard input without -y", func(t *testing.T) {
		refuses(t, c.dstack(t, "apply", "-f", "-"), "Cannot read configuration from stdin if -y/--yes is not specified")
	})
}

const small = "resources: {cpu: 1.., memory: 0.1.., disk: 1MB..}\n"

// TestAbsolutePath applies a file outside of the working folder, which ended
// in a traceback in 0.22.5.
func TestAbsolutePath(t *testing.T) {
	c := user(t)
	file := filepath.Join(t.TempDir(), "task.yml")
	write(t, file, "type: task\nname: outside\ncommands: [echo here]\n"+small)
	got := c.dstack(t, "apply", "-f", file, "-y")
	if got.Exit != 0 || !strings.Contains(got.Stdout, "here") {
		t.Errorf("exit %d, %q, %q", got.Exit, got.Stdout, got.Stderr)
	}
}

// TestImpossibleResources shows that the plan says why no host will do, and
// that a run which is submitted all the same ends at once with the reason.
func TestImpossibleResources(t *testing.T) {
	tests := map[string]struct{ resources, reason string }{
		"cpu":    {"cpu: 4000..", "needs 4000 or more CPUs, has "},
		"memory": {"cpu: 1.., memory: 90TB.., disk: 1GB..", "needs 92160GB or more of memory, has "},
		"disk":   {"cpu: 1.., memory: 0.1.., disk: 900TB..", "needs 921600GB or more of disk, has "},
		"gpu":    {"cpu: 1.., memory: 0.1.., disk: 1MB.., gpu: H100:8", "needs a GPU, has none"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := user(t)
			write(t, filepath.Join(c.dir, "big.yml"), "type: task\nname: big-"+name+"\ncommands: [echo]\nresources: {"+tt.resources+"}\n")
			got := c.dstack(t, "apply", "-f", "big.yml", "-y")
			if got.Exit != 1 {
				t.Errorf("exit %d, want 1", got.Exit)
			}
			plan, end, submitted := strings.Cut(got.Stdout, "provisioning completed (failed)")
			if !submitted || !strings.Contains(plan, "No offers: local-0: "+tt.reason) || !strings.Contains(end, tt.reason) {
				t.Errorf("no reason %q in plan and end:\n%s\n%s", tt.reason, got.Stdout, got.Stderr)
			}
			run, err := shared.Run(t.Context(), "big-"+name)
			if err != nil || run.LatestJobSubmission == nil || run.LatestJobSubmission.JobProvisioningData != nil {
				t.Errorf("run: %+v, %v; want one that got no host", run, err)
			}
		})
	}
}

// TestDuplicateNames wants a second run and second fleets with what is taken.
func TestDuplicateNames(t *testing.T) {
	c := user(t)
	if _, err := shared.Submit(t.Context(), "twice", map[string]any{"commands": []string{"sleep 1000"}}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if got := c.dstack(t, "stop", "twice", "-x", "-y"); got.Exit != 0 {
			t.Errorf("stop: %+v", got)
		}
	}()
	fleet := func(file, name, hosts string) {
		write(t, filepath.Join(c.dir, file), "type: fleet\nname: "+name+
			"\nssh_config: {user: nobody, port: 1, identity_file: key, hosts: ["+hosts+"]}\n")
	}
	writeKey(t, filepath.Join(c.dir, "key"))
	fleet("one.yml", "one", "127.0.0.9")
	fleet("two.yml", "two", "127.0.0.9")
	fleet("same.yml", "same", "127.0.0.8, 127.0.0.8")
	if got := c.dstack(t, "apply", "-f", "one.yml", "-y", "-d"); got.Exit != 0 {
		t.Fatalf("fleet one: %+v", got)
	}
	defer func() {
		if got := c.dstack(t, "fleet", "delete", "one", "-y"); got.Exit != 0 {
			t.Errorf("delete fleet: %+v", got)
		}
	}()
	refuses(t, c.dstack(t, "apply", "-f", "two.yml", "-y", "-d"), "Instances [127.0.0.9] are already assigned to a fleet.")
	refuses(t, c.dstack(t, "apply", "-f", "same.yml", "-y", "-d"), "ssh_config.hosts: 127.0.0.8 is listed twice")
	task := map[string]any{"type": "task", "name": "twice", "commands": []string{"echo"}}
	refusedCall(t, shared, "project/main/runs/apply", map[string]any{"force": false, "plan": map[string]any{
		"run_spec": map[string]any{"run_name": "twice", "configuration": task}, "current_resource": nil,
	}}, "Cannot override active run. Stop the run first.")
	refusedCall(t, shared, "project/main/fleets/apply", map[string]any{"force": false, "plan": map[string]any{
		"spec": map[string]any{"profile": map[string]any{"name": "default"}, "configuration": map[string]any{
			"type": "fleet", "name": "one", "ssh_config": map[string]any{"user": "u", "hosts": []string{"127.0.0.7"}, "ssh_key": map[string]any{
				"public": read(t, filepath.Join(c.dir, "key.pub")), "private": read(t, filepath.Join(c.dir, "key")),
			}},
		}},
		"current_resource": nil,
	}}, "Failed to apply plan. Resource has been changed. Try again or use force apply.")
	run, err := shared.Run(t.Context(), "twice")
	if err != nil || run.Status.Finished() {
		t.Errorf("run twice: %v, %v; want it untouched", run.Status, err)
	}
}

// refusedCall wants a business error with this sentence.
func refusedCall(t *testing.T, s *lab.Server, path string, body any, want string) {
	t.Helper()
	status, detail := post(t, s, "/api/"+path, encode(t, body), jsonType)
	if status != http.StatusBadRequest || !strings.Contains(detail, want) {
		t.Errorf("%s answered %d: %s, want %q", path, status, detail, want)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func writeKey(t *testing.T, path string) {
	t.Helper()
	command(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
}
