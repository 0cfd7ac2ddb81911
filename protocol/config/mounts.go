package config

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"dstack/protocol/internal/decode"
)

// readMount reads one entry of `volumes` (spec: configuration.md 2.9).
func readMount(v decode.Value) Mount {
	switch v.Kind() {
	case decode.Map:
		return readMountObject(v)
	case decode.String:
		return readMountText(v)
	}
	v.Fail("model_attributes_type", "must be a mount", "NAME:PATH, /HOST/PATH:PATH or a mapping")
	return Mount{}
}

func readMountText(v decode.Value) Mount {
	text := v.Node().Text
	source, target, ok := strings.Cut(text, ":")
	if !ok || strings.Contains(target, ":") {
		v.FailValue("must be SOURCE:PATH with one ':'", "invalid mount point format: "+text, "NAME:PATH or /HOST/PATH:PATH")
		return Mount{}
	}
	m := Mount{Path: mountPath(v.At(v.Node(), "path"), target)}
	if strings.Contains(source, "/") {
		m.InstancePath = mountPath(v.At(v.Node(), "instance_path"), source)
		return m
	}
	m.Names = []string{source}
	return m
}

func readMountObject(v decode.Value) Mount {
	o := v.Object()
	defer o.Done()
	readPath := func(v decode.Value) string {
		s, ok := decode.Try(v, decode.Text)
		if !ok {
			return s
		}
		return mountPath(v, s)
	}
	n := v.Node()
	if n.Lookup("instance_path") != nil && n.Lookup("name") == nil {
		return Mount{
			InstancePath: decode.Required(o, "instance_path", readPath),
			Path:         decode.Required(o, "path", readPath),
			Optional:     decode.Field(o, "optional", decode.Boolean),
		}
	}
	m := Mount{Names: decode.Required(o, "name", readNames), Path: decode.Required(o, "path", readPath)}
	if name := n.Lookup("name"); name != nil {
		m.NameIsList = name.Kind == decode.List
	}
	return m
}

// readNames reads a text or a list of texts.
func readNames(v decode.Value) []string {
	if v.Kind() == decode.List {
		return decode.ListOf(decode.Text)(v)
	}
	return []string{decode.Text(v)}
}

// mountPath checks and normalises a path of a mount.
func mountPath(v decode.Value, s string) string {
	switch {
	case s == "":
		v.FailValue("must be an absolute path", "empty path", "")
		return s
	case !strings.HasPrefix(s, "/"):
		v.FailValue("must be an absolute path", "path must be absolute: "+s, "")
		return s
	case slices.Contains(strings.Split(s, "/"), ".."):
		v.FailValue("must not contain '..'", ".. are not allowed: "+s, "")
		return s
	}
	clean := path.Clean(s)
	if strings.HasPrefix(s, "//") && !strings.HasPrefix(s, "///") {
		return "/" + clean // POSIX keeps exactly two leading slashes
	}
	return clean
}

var windowsPath = regexp.MustCompile(`^[a-zA-Z]:[\\/]`)

// readFile reads one entry of `files` (spec: configuration.md 2.10).
func readFile(v decode.Value) FileMapping {
	if v.Kind() == decode.Map {
		o := v.Object()
		defer o.Done()
		return FileMapping{
			LocalPath: decode.Required(o, "local_path", decode.Text),
			Path:      decode.Required(o, "path", readContainerPath),
		}
	}
	if v.Kind() != decode.String {
		v.Fail("model_attributes_type", "must be a file", "LOCAL, LOCAL:PATH or a mapping")
		return FileMapping{}
	}
	text := v.Node().Text
	drive, rest := "", text
	if windowsPath.MatchString(text) {
		drive, rest = text[:2], text[2:]
	}
	local, target, both := strings.Cut(rest, ":")
	local = drive + local
	if !both {
		target = local
	}
	if strings.Contains(target, ":") && !windowsPath.MatchString(target) {
		v.FailValue("must have at most one ':'", "invalid file path mapping: "+text, "LOCAL or LOCAL:PATH")
		return FileMapping{}
	}
	return FileMapping{LocalPath: local, Path: containerPath(v.At(v.Node(), "path"), target)}
}

func readContainerPath(v decode.Value) string {
	s, ok := decode.Try(v, decode.Text)
	if !ok {
		return s
	}
	return containerPath(v, s)
}

func containerPath(v decode.Value, s string) string {
	if windowsPath.MatchString(s) {
		v.FailValue("must not be a Windows path", "path must be a Unix file path: "+s, "")
	}
	return s
}
