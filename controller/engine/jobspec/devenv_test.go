package jobspec

import (
	"strings"
	"testing"

	"dstack/protocol/config"
	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

// devPlace is a development environment on its host.
func devPlace(t *testing.T, process bool, d config.DevEnvironment) Place {
	t.Helper()
	inst := host()
	if process {
		inst.Info.Runtime = hostapi.Process
	}
	p := placeOf(inst, 1)
	p.Run.Spec.Configuration = config.Run{DevEnvironment: &d}
	jobs, err := Build(p.Run.Spec, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	p.Job.Spec = jobs[0]
	return p
}

// TestEditors says what the agent installs for each editor, and where (spec:
// job-execution.md 7); what the wire shows stays 0.22.5's.
func TestEditors(t *testing.T) {
	t.Parallel()
	extensions := []string{"ms-python.python", "ms-toolsai.jupyter"}
	for ide, want := range map[string]struct {
		version string
		dev     jobapi.DevEnvironment
	}{
		"": {"", jobapi.DevEnvironment{Host: "train"}},
		"vscode": {"c0ffee", jobapi.DevEnvironment{
			Editor: "VS Code", Link: "vscode://vscode-remote/ssh-remote+train", Host: "train",
			Server: &jobapi.EditorServer{
				URL: "https://update.code.visualstudio.com/commit:c0ffee/server-linux-$arch/stable", Folder: "~/.vscode-server/bin/c0ffee",
				Program: "bin/code-server", Extensions: extensions,
			},
		}},
		"cursor": {"c0ffee", jobapi.DevEnvironment{
			Editor: "Cursor", Link: "cursor://vscode-remote/ssh-remote+train", Host: "train",
			Server: &jobapi.EditorServer{
				URL:    "https://cursor.blob.core.windows.net/remote-releases/c0ffee/vscode-reh-linux-$arch.tar.gz",
				Folder: "~/.cursor-server/cli/servers/Stable-c0ffee/server", Program: "bin/cursor-server", Extensions: extensions,
			},
		}},
		"windsurf": {"1.2.3@c0ffee", jobapi.DevEnvironment{
			Editor: "Windsurf", Link: "windsurf://vscode-remote/ssh-remote+train", Host: "train",
			Server: &jobapi.EditorServer{
				URL:    "https://windsurf-stable.codeiumdata.com/linux-reh-$arch/stable/c0ffee/windsurf-reh-linux-$arch-1.2.3.tar.gz",
				Folder: "~/.windsurf-server/bin/c0ffee", Program: "bin/windsurf-server", Extensions: extensions,
			},
		}},
		"zed": {"1", jobapi.DevEnvironment{Editor: "Zed", Link: "zed://ssh/train", Host: "train"}},
	} {
		d := config.DevEnvironment{RunBase: config.RunBase{Image: ptr("busybox")}}
		if ide != "" {
			d.IDE, d.Version = &ide, &want.version
		}
		p := devPlace(t, false, d)
		got := Task(p, Options{}).Job
		expect(t, ide, *got.DevEnvironment, want.dev)
		expect(t, ide+" commands", got.Commands, []string{"/bin/sh", "-i", "-c", ipykernel + " && echo"})
		wire := p.Job.Spec.Commands[3]
		if strings.Contains(wire, "wget") != (want.dev.Server != nil) || !strings.HasSuffix(wire, " && tail -f /dev/null") {
			t.Errorf("%s: the wire shows %s", ide, wire)
		}
		if ide != "" {
			d.Version = nil
			expect(t, ide+" without version", Task(devPlace(t, false, d), Options{}).Job.DevEnvironment.Server, (*jobapi.EditorServer)(nil))
		}
	}
}

// TestDevTask tells what of an environment needs a shell.
func TestDevTask(t *testing.T) {
	t.Parallel()
	image := ptr("busybox")
	d := config.DevEnvironment{Init: []string{"pip install x", "serve &"}, RunBase: config.RunBase{Image: image, Setup: []string{"old"}}}
	got := Task(devPlace(t, false, d), Options{}).Job
	expect(t, "commands", got.Commands[3], ipykernel+" && old && echo && pip install x && { serve & }")
	expect(t, "init needs a shell", got.DevEnvironment.NeedsShell, true)
	d = config.DevEnvironment{}
	got = Task(devPlace(t, false, d), Options{}).Job
	expect(t, "default image", []any{got.DevEnvironment.NeedsShell, strings.HasPrefix(got.Commands[3], "eval ")}, []any{true, true})
	got = Task(devPlace(t, true, d), Options{}).Job
	expect(t, "as a process", got.Commands, []string{"/bin/bash", "-i", "-c", ipykernel + " && echo"})
	expect(t, "no development environment", Task(placeOf(host(), 1), Options{}).Job.DevEnvironment, (*jobapi.DevEnvironment)(nil))
	name, link := IDE("zed", "train", "/w")
	expect(t, "link", []string{name, link}, []string{"Zed", "zed://ssh/train/w"})
}
