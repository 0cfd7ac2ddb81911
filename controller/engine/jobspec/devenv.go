package jobspec

import (
	"slices"
	"strings"

	"dstack/protocol/config"
	"dstack/protocol/jobapi"
)

// ide is what an editor's server needs on the host. name is how the editor
// calls itself, scheme that of its links; url, folder and program say where its
// server comes from, where it is placed and how it is called there, with
// {version} and {commit} for the parts of the version.
type ide struct {
	name, scheme string
	url, archive string
	folder       string
	program      string
}

// ideOf describes an editor (spec: job-execution.md 7).
func ideOf(name string) ide {
	switch name {
	case config.IDEVSCode:
		return ide{
			name: "VS Code", scheme: "vscode", archive: "vscode-server-linux",
			url:    "https://update.code.visualstudio.com/commit:{version}/server-linux-$arch/stable",
			folder: `~/.vscode-server/bin/"{version}"`, program: "code-server",
		}
	case config.IDECursor:
		return ide{
			name: "Cursor", scheme: "cursor", archive: "vscode-reh-linux",
			url:    "https://cursor.blob.core.windows.net/remote-releases/{version}/vscode-reh-linux-$arch.tar.gz",
			folder: `~/.cursor-server/cli/servers/"Stable-{version}"/server`, program: "cursor-server",
		}
	case config.IDEWindsurf:
		return ide{
			name: "Windsurf", scheme: "windsurf", archive: "windsurf-reh-linux",
			url:    "https://windsurf-stable.codeiumdata.com/linux-reh-$arch/stable/{commit}/windsurf-reh-linux-$arch-{version}.tar.gz",
			folder: `~/.windsurf-server/bin/"{commit}"`, program: "windsurf-server",
		}
	case config.IDEZed:
		return ide{name: "Zed", scheme: "zed"}
	}
	return ide{}
}

// IDE is the name of an editor and the link that opens a folder of a run's
// host in it.
func IDE(editor, host, folder string) (name, link string) {
	i := ideOf(editor)
	return i.name, i.link(host) + folder
}

func (i ide) link(host string) string {
	if i.scheme == config.IDEZed {
		return "zed://ssh/" + host
	}
	return i.scheme + "://vscode-remote/ssh-remote+" + host
}

// filler puts the parts of a version in their places.
func filler(version string) *strings.Replacer {
	release, commit, _ := strings.Cut(version, "@")
	return strings.NewReplacer("{version}", release, "{commit}", commit)
}

// extensions are those that an editor gets.
func extensions() []string { return []string{"ms-python.python", "ms-toolsai.jupyter"} }

// install fetches the editor's server in its version, and its extensions. It is
// what a plan of 0.22.5 shows; what is done is server's.
func (i ide) install(version string) []string {
	if i.url == "" {
		return nil
	}
	fill := filler(version)
	archive := `"/tmp/` + i.archive + `-$arch.tar.gz"`
	folder := fill.Replace(i.folder)
	return []string{
		`if [ $(uname -m) = "aarch64" ]; then arch="arm64"; else arch="x64"; fi`,
		"mkdir -p /tmp",
		`wget -q --show-progress "` + fill.Replace(i.url) + `" -O ` + archive,
		"mkdir -vp " + folder,
		"tar --no-same-owner -xz --strip-components=1 -C " + folder + " -f " + archive,
		"rm " + archive,
		`PATH="$PATH":` + folder + "/bin " + i.program + ` --install-extension "` + strings.Join(extensions(), `" --install-extension "`) + `"`,
	}
}

// server is the editor's server in its version, for the agent to install.
func (i ide) server(version string) *jobapi.EditorServer {
	if i.url == "" {
		return nil
	}
	fill := filler(version)
	return &jobapi.EditorServer{
		URL: fill.Replace(i.url), Folder: strings.ReplaceAll(fill.Replace(i.folder), `"`, ""),
		Program: "bin/" + i.program, Extensions: extensions(),
	}
}

// ipykernel lets the editor run notebooks; a job works without it.
const ipykernel = "(echo 'uv pip install ipykernel...' && uv pip install -q --no-cache-dir ipykernel 2> /dev/null)" +
	" || (echo 'pip install ipykernel...' && pip install -q --no-cache-dir ipykernel 2> /dev/null)" +
	" || echo 'no uv or pip found, ipykernel was not installed'"

// preparation is what is done in a development environment before the user is
// told how to get there.
func preparation(d *config.DevEnvironment) []string {
	return slices.Concat([]string{ipykernel}, d.Setup, []string{"echo"}, d.Init)
}

// devTask is what the host is asked to run: the agent itself brings the editor's
// server, says how to connect, and waits, so that none of it needs a program of
// the image.
func devTask(run string, d *config.DevEnvironment) ([]string, *jobapi.DevEnvironment) {
	task := &jobapi.DevEnvironment{Host: run, NeedsShell: len(prelude(&d.RunBase))+len(d.Setup)+len(d.Init) > 0}
	if editor := ideOf(deref(d.IDE)); editor.name != "" {
		task.Editor, task.Link = editor.name, editor.link(run)
		if d.Version != nil {
			task.Server = editor.server(*d.Version)
		}
	}
	return script(&d.RunBase, preparation(d)), task
}

// devCommands prepare a development environment, tell the user how to get
// there, and wait.
func devCommands(run string, d *config.DevEnvironment) []string {
	var out []string
	editor := ideOf(deref(d.IDE))
	if d.Version != nil {
		out = append(out, editor.install(*d.Version)...)
	}
	out = append(out, preparation(d)...)
	if editor.name != "" {
		out = append(out,
			"echo 'To open in "+editor.name+", use link below:'", "echo",
			`echo "  `+editor.link(run)+`$DSTACK_WORKING_DIR"`, "echo",
		)
	}
	return append(out, "echo 'To connect via SSH, use: `ssh "+run+"`'", "echo", "echo -n 'To exit, press Ctrl+C.'", "tail -f /dev/null")
}
