package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"dstack/protocol/internal/decode"
)

// readTask reads `type: task` (spec: configuration.md 6.2).
func readTask(v decode.Value) Task {
	o := v.Object()
	o.Has("type")
	t, ok := decode.Try(v, func(decode.Value) Task {
		return Task{
			Type:          TypeTask,
			Nodes:         decode.Field(o, "nodes", decode.Optional(decode.IntMin(1))),
			Groups:        decode.Field(o, "groups", readGroups),
			Ports:         decode.Field(o, "ports", decode.ListOf(readPort)),
			Commands:      decode.Field(o, "commands", decode.ListOf(decode.Text)),
			RunBase:       readRunBase(o),
			ProfileParams: readProfileParams(o),
		}
	})
	o.Done()
	if ok {
		checkTask(o, t)
	}
	return t
}

// readRunBase reads the fields that all run types share.
func readRunBase(o *decode.Object) RunBase {
	return RunBase{
		Name:         decode.Field(o, "name", decode.Optional(decode.Text)),
		Image:        decode.Field(o, "image", decode.Optional(decode.Text)),
		User:         decode.Field(o, "user", decode.Optional(readUser)),
		Privileged:   decode.Field(o, "privileged", decode.Boolean),
		Entrypoint:   decode.Field(o, "entrypoint", decode.Optional(decode.Text)),
		WorkingDir:   decode.Field(o, "working_dir", decode.Optional(decode.Text)),
		HomeDir:      decode.FieldOr(o, "home_dir", DefaultHomeDir, decode.Text),
		RegistryAuth: decode.Field(o, "registry_auth", decode.Optional(readRegistryAuth)),
		Python:       decode.Field(o, "python", decode.Optional(readPython)),
		NVCC:         decode.Field(o, "nvcc", decode.Optional(decode.Boolean)),
		SingleBranch: decode.Field(o, "single_branch", decode.Optional(decode.Boolean)),
		Env:          decode.FieldOr(o, "env", Env{}, readEnv),
		Shell:        decode.Field(o, "shell", decode.Optional(readShell)),
		Resources:    decode.FieldOr(o, "resources", DefaultResources(), readResources),
		Priority:     decode.Field(o, "priority", decode.Optional(decode.IntBetween(0, 100))),
		Volumes:      decode.Field(o, "volumes", decode.ListOf(readMount)),
		Docker:       decode.Field(o, "docker", decode.Optional(decode.Boolean)),
		Repos:        decode.Field(o, "repos", readRepos),
		Files:        decode.Field(o, "files", decode.ListOf(readFile)),
		Dstack:       decode.Field(o, "dstack", decode.Boolean),
		Setup:        decode.Field(o, "setup", decode.ListOf(decode.Text)),
	}
}

// checkTask applies the rules between fields of a task.
func checkTask(o *decode.Object, t Task) {
	checkImageSources(o, t.RunBase)
	if t.Groups == nil {
		if len(t.Commands) == 0 && !filled(t.Image) {
			o.FailBare("value_error", "Either `commands` or `image` must be set", "")
		}
		return
	}
	for _, f := range []struct {
		name, inGroup string
		set           bool
	}{
		{"nodes", "nodes", t.Nodes != nil},
		{"commands", "commands", len(t.Commands) > 0},
		{"ports", "ports", len(t.Ports) > 0},
		{"entrypoint", "commands", t.Entrypoint != nil},
	} {
		switch {
		case !f.set:
		case f.name == "nodes":
			o.FailField(f.name, "value_error", "`nodes` and `groups` are mutually exclusive", "")
		default:
			o.FailField(f.name, "value_error", fmt.Sprintf("Top-level `%s` is not allowed when `groups` is set. Specify `%s` in each node group instead.", f.name, f.inGroup), "")
		}
	}
	for _, g := range t.Groups {
		if len(g.Commands) == 0 && t.Image == nil {
			o.FailField("groups", "value_error", fmt.Sprintf("Node group '%s': either `commands` must be set in the group, or `image` at the task level.", *g.Name), "")
		}
	}
	warnIgnoredResources(o)
}

// checkImageSources rejects two ways to choose the image at once.
func checkImageSources(o *decode.Object, r RunBase) {
	hasImage := filled(r.Image)
	if r.Python != nil && hasImage {
		o.Child("python").FailBare("value_error", "`image` and `python` are mutually exclusive fields", "")
	}
	if isTrue(r.NVCC) && hasImage {
		o.Child("nvcc").Warn("has no effect with `image`", "")
	}
	if isTrue(r.Docker) {
		excludeDocker(o, " fields", hasImage, r.Python != nil, isTrue(r.NVCC))
	}
}

var groupName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// readGroupName reads the name of a group; what is how errors call it.
func readGroupName(what string) decode.Reader[string] {
	return func(v decode.Value) string {
		s, ok := decode.Try(v, decode.Text)
		if ok && !groupName.MatchString(s) {
			v.Fail("value_error", what+" should match regex '"+groupName.String()+"'", "")
		}
		return s
	}
}

func readGroups(v decode.Value) []NodeGroup {
	return readNamedGroups(v, "node", readGroup, func(g *NodeGroup) **string { return &g.Name })
}

func readGroup(v decode.Value) NodeGroup {
	o := v.Object()
	defer o.Done()
	return NodeGroup{
		Name:      decode.Field(o, "name", decode.Optional(readGroupName("Node group name"))),
		Nodes:     decode.FieldOr(o, "nodes", 1, decode.IntMin(1)),
		Resources: decode.FieldOr(o, "resources", DefaultResources(), readResources),
		Commands:  decode.Field(o, "commands", decode.ListOf(decode.Text)),
		Ports:     decode.Field(o, "ports", decode.ListOf(readPort)),
	}
}

func readRegistryAuth(v decode.Value) RegistryAuth {
	o := v.Secret().Object()
	defer o.Done()
	return RegistryAuth{
		Username: decode.Required(o, "username", decode.Text),
		Password: decode.Required(o, "password", decode.Text),
	}
}

// pythonVersions are the values of `python`.
var pythonVersions = []string{"3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15"}

// readPython reads a Python version; YAML takes 3.10 for the number 3.1.
func readPython(v decode.Value) string {
	n := v.Node()
	text := n.Text
	if n.Kind == decode.Float {
		text = strconv.FormatFloat(n.Float, 'f', -1, 64)
		if text == "3.1" {
			text = "3.10"
		}
	}
	if n.Kind == decode.Float || n.Kind == decode.String {
		for _, known := range pythonVersions {
			if text == known {
				return text
			}
		}
	}
	v.FailValue("must be one of "+join(pythonVersions), "'"+text+"' is not a valid PythonVersion", "")
	return ""
}

func readShell(v decode.Value) string {
	s, ok := decode.Try(v, decode.Text)
	if ok && s != "sh" && s != "bash" && !strings.HasPrefix(s, "/") {
		v.FailValue("must be sh, bash or an absolute path", "The value must be `sh`, `bash`, or an absolute path", "")
	}
	return s
}

// readUser reads USER[:GROUP], each a name or a non-negative number.
func readUser(v decode.Value) string {
	s, ok := decode.Try(v, decode.Text)
	if !ok {
		return s
	}
	if _, err := ParseUser(s); err != nil {
		v.FailValue(err.Error(), err.Error(), "USER or USER:GROUP")
	}
	return s
}

func join(words []string) string { return strings.Join(words, ", ") }
