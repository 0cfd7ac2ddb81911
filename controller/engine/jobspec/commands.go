package jobspec

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"dstack/protocol/config"
	"dstack/protocol/words"
)

// ErrNoCommand is the text of 0.22.5 for a job with nothing to run.
var ErrNoCommand = errors.New("Could not determine what command to run. Please specify either `commands` or " + //nolint:staticcheck // as 0.22.5 says it
	"`entrypoint` in your run configuration")

// commands is the argument vector of a job; empty means the image's own, as
// the host finds it.
func commands(run string, w workload, image *ImageConfig) ([]string, error) {
	t := &w.base
	if t.Entrypoint != nil {
		argv, err := words.Split(*t.Entrypoint)
		if err != nil {
			return nil, fmt.Errorf("entrypoint: %w", err)
		}
		return append(argv, w.commands...), nil
	}
	list := w.commands
	if w.dev != nil {
		list = devCommands(run, w.dev)
	}
	if len(list) == 0 {
		return imageCommand(t, image)
	}
	return script(t, list), nil
}

// script is the shell that does a list of commands, one after another.
func script(t *config.RunBase, list []string) []string {
	lines := prelude(t)
	for _, c := range list {
		c = strings.TrimSpace(c)
		if strings.HasSuffix(c, "&") && !strings.HasSuffix(c, "&&") {
			c = "{ " + c + " }"
		}
		lines = append(lines, c)
	}
	return []string{shell(t), "-i", "-c", strings.Join(lines, " && ")}
}

func imageCommand(t *config.RunBase, image *ImageConfig) ([]string, error) {
	if t.Image == nil || *t.Image == "" {
		return nil, ErrNoCommand
	}
	if *t.Image == "scratch" { // a plan for offers only
		return []string{":"}, nil
	}
	if image == nil {
		return []string{}, nil
	}
	argv := append(append([]string{}, image.Entrypoint...), image.Cmd...)
	if len(argv) == 0 {
		return nil, ErrNoCommand
	}
	return argv, nil
}

func shell(t *config.RunBase) string {
	switch {
	case t.Shell != nil && path.IsAbs(*t.Shell):
		return *t.Shell
	case t.Shell != nil:
		return "/bin/" + *t.Shell
	case t.Image != nil && *t.Image != "":
		return "/bin/sh"
	}
	return "/bin/bash"
}

// startDocker is the command of the image for `docker: true` that starts the
// engine and waits for it.
const startDocker = "start-dockerd"

// prelude is what runs before the user's commands.
func prelude(t *config.RunBase) []string {
	switch {
	case t.Image != nil && *t.Image != "":
		return nil
	case isDind(t):
		return []string{startDocker}
	}
	python := DefaultPython
	if t.Python != nil {
		python = *t.Python
	}
	return venv(python)
}

// venv makes a Python environment in the default image, of the interpreter
// that the image has, if it has it. These lines are what a plan of 0.22.5
// shows.
func venv(python string) []string {
	return []string{
		profileLine("export DSTACK_VENV_DIR=/dstack/venv"),
		"sudo rm -rf $DSTACK_VENV_DIR",
		"sudo mkdir $DSTACK_VENV_DIR",
		"sudo chown $(id -u):$(id -g) $DSTACK_VENV_DIR",
		"(if UV_PYTHON_INSTALL_DIR=/opt/uv/python uv python find " + python + " > /dev/null 2>&1; " +
			"then export UV_PYTHON_INSTALL_DIR=/opt/uv/python UV_PYTHON_DOWNLOADS=never; fi; " +
			"uv venv -q --prompt dstack -p " + python + " --seed $DSTACK_VENV_DIR)",
		profileLine(". $DSTACK_VENV_DIR/bin/activate"),
	}
}

// profileLine adds a line to the profile of logins and evaluates it here.
func profileLine(line string) string {
	return "eval $(echo '" + line + "' | sudo tee -a /dstack/profile)"
}

// WithoutPrelude removes what only the default image can run, for a host
// that runs jobs as plain processes.
func WithoutPrelude(argv []string) []string {
	if len(argv) != 4 || argv[2] != "-c" {
		return argv
	}
	script := argv[3]
	lines := venv("")
	for first, last := range map[string]string{startDocker: startDocker, lines[0]: lines[len(lines)-1]} {
		if !strings.HasPrefix(script, first+" && ") {
			continue
		}
		if _, rest, found := strings.Cut(script, last+" && "); found {
			return []string{argv[0], argv[1], argv[2], rest}
		}
	}
	return argv
}
