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

// InterpolateRun does the client's part: run.args in the commands of tasks and
// services, env.NAME in registry_auth and in probes. References to secrets and
// to other nodes stay for the server. args is the shell-quoted text of what
// followed "--"; env has to be resolved. The configuration that r points to is
// changed.
func (r Run) InterpolateRun(args string) error {
	switch {
	case r.Task != nil:
		if err := interpolateCommands("commands", r.Task.Commands, args); err != nil {
			return err
		}
		for i, g := range r.Task.Groups {
			if err := interpolateCommands(fmt.Sprintf("groups.%d.commands", i), g.Commands, args); err != nil {
				return err
			}
		}
	case r.Service != nil:
		if err := interpolateCommands("commands", r.Service.Commands, args); err != nil {
			return err
		}
		for i, g := range r.Service.Groups {
			if err := interpolateCommands(fmt.Sprintf("groups.%d.commands", i), g.Commands, args); err != nil {
				return err
			}
		}
		if err := interpolateProbes(r.Service.Probes, r.Service.Env); err != nil {
			return err
		}
	}
	base := r.Base()
	if base == nil || base.RegistryAuth == nil {
		return nil
	}
	auth := base.RegistryAuth
	for field, text := range map[string]*string{"username": &auth.Username, "password": &auth.Password} {
		if err := interpolateEnv("registry_auth."+field, text, base.Env); err != nil {
			return err
		}
	}
	return nil
}

// interpolateProbes replaces env.NAME in what probes send.
func interpolateProbes(probes []Probe, env Env) error {
	for i := range probes {
		p := &probes[i]
		at := fmt.Sprintf("probes.%d.", i)
		for field, text := range map[string]*string{"url": p.URL, "body": p.Body} {
			if text == nil {
				continue
			}
			if err := interpolateEnv(at+field, text, env); err != nil {
				return err
			}
		}
		for n := range p.Headers {
			if err := interpolateEnv(fmt.Sprintf("%sheaders.%d.value", at, n), &p.Headers[n].Value, env); err != nil {
				return err
			}
		}
	}
	return nil
}

// interpolateEnv replaces env.NAME in a text.
func interpolateEnv(field string, text *string, env Env) error {
	values := env.Values()
	value, err := Interpolate(*text, func(name string) (string, bool) {
		variable, ok := strings.CutPrefix(name, "env.")
		value, known := values[variable]
		return value, ok && known
	}, secretName.MatchString)
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	*text = value
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
