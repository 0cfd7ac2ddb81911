package config

import (
	"fmt"
	"regexp"
	"strings"
)

var variableName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*\.[a-zA-Z_][a-zA-Z0-9_]*$`)

// Interpolate replaces ${{ namespace.name }} in s (spec: configuration.md
// 2.14). References for which keep says true stay as they are; lookup gives
// the values of the others. $$ becomes $, but only in front of the next lone $:
// that is the exact rule of 0.22.5.
func Interpolate(s string, lookup func(name string) (string, bool), keep func(name string) bool) (string, error) {
	var out strings.Builder
	for {
		dollar := strings.IndexByte(s, '$')
		if dollar < 0 {
			out.WriteString(s)
			return out.String(), nil
		}
		if strings.HasPrefix(s[dollar:], "$$") {
			out.WriteString(s[:dollar+1])
			s = s[dollar+2:]
			continue
		}
		open := strings.Index(s[dollar:], "${{")
		if open < 0 {
			out.WriteString(s)
			return out.String(), nil
		}
		open += dollar
		length := strings.Index(s[open:], "}}")
		if length < 0 {
			return "", fmt.Errorf("no closing }} after %q", s[open:])
		}
		reference := s[open : open+length+2]
		name := strings.TrimSpace(reference[3:length])
		value, err := interpolateOne(reference, name, lookup, keep)
		if err != nil {
			return "", err
		}
		out.WriteString(s[:open] + value)
		s = s[open+length+2:]
	}
}

func interpolateOne(reference, name string, lookup func(string) (string, bool), keep func(string) bool) (string, error) {
	if keep(name) {
		return reference, nil
	}
	value, ok := lookup(name)
	switch {
	case ok: // a secret may have a name that is illegal elsewhere
		return value, nil
	case !variableName.MatchString(name):
		return "", fmt.Errorf("illegal name %q in ${{ }}, must be NAMESPACE.NAME", name)
	}
	return "", fmt.Errorf("unknown variable ${{ %s }}", name)
}

var secretName = regexp.MustCompile(`^secrets\.[a-zA-Z_][a-zA-Z0-9_]*$`)

// InterpolateRun does the client's part: run.args in commands, env.NAME in
// registry_auth. References to secrets and to other nodes stay for the
// server. args is the shell-quoted text of what followed "--"; env has to be
// resolved. The configuration that r points to is changed.
func (r Run) InterpolateRun(args string) error {
	if r.Task == nil {
		return nil
	}
	t := r.Task
	if err := interpolateCommands("commands", t.Commands, args); err != nil {
		return err
	}
	for i := range t.Groups {
		if err := interpolateCommands(fmt.Sprintf("groups.%d.commands", i), t.Groups[i].Commands, args); err != nil {
			return err
		}
	}
	if t.RegistryAuth == nil {
		return nil
	}
	env := t.Env.Values()
	lookup := func(name string) (string, bool) {
		variable, ok := strings.CutPrefix(name, "env.")
		value, known := env[variable]
		return value, ok && known
	}
	for field, text := range map[string]*string{"username": &t.RegistryAuth.Username, "password": &t.RegistryAuth.Password} {
		value, err := Interpolate(*text, lookup, secretName.MatchString)
		if err != nil {
			return fmt.Errorf("registry_auth.%s: %w", field, err)
		}
		*text = value
	}
	return nil
}

func interpolateCommands(field string, commands []string, args string) error {
	lookup := func(name string) (string, bool) { return args, name == "run.args" }
	keep := func(name string) bool {
		return secretName.MatchString(name) || strings.HasPrefix(name, "groups[")
	}
	for i, command := range commands {
		value, err := Interpolate(command, lookup, keep)
		if err != nil {
			return fmt.Errorf("%s.%d: %w", field, i, err)
		}
		commands[i] = value
	}
	return nil
}
