package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"dstack/protocol/internal/decode"
)

var envItem = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)(=.*)?$`)

// ParseEnv parses NAME=VALUE or the sentinel NAME.
func ParseEnv(s string) (string, EnvValue, error) {
	if !envItem.MatchString(s) || strings.HasSuffix(s, "\n") {
		name, _, _ := strings.Cut(s, "=")
		return "", EnvValue{}, fmt.Errorf("not a variable: %q, must be NAME=VALUE or NAME on one line, NAME of letters, digits and _", name)
	}
	name, value, set := strings.Cut(s, "=")
	if !set {
		return name, EnvValue{From: name}, nil
	}
	return name, EnvValue{Value: value}, nil
}

// readEnv reads a list of variables or a mapping (spec: configuration.md 2.8).
func readEnv(v decode.Value) Env {
	v = v.Secret()
	switch v.Kind() {
	case decode.Map:
		return decode.MapOf(readEnvValue)(v)
	case decode.List:
		return readEnvList(v)
	}
	v.Fail("dict_type", "must be a mapping or a list of NAME=VALUE", "")
	return nil
}

func readEnvList(v decode.Value) Env {
	env := Env{}
	for i, item := range v.Node().Items {
		at := v.At(item, i)
		text, ok := decode.Try(at, decode.Text)
		if !ok {
			continue
		}
		name, value, err := ParseEnv(text)
		if err != nil {
			at.FailWire("string_pattern_mismatch", err.Error(), "String should match pattern '^([a-zA-Z_][a-zA-Z0-9_]*)(=.*$|$)'", "")
			continue
		}
		if _, twice := env[name]; twice {
			at.For(v).FailBare("value_error", "Duplicate environment variable: "+name, "")
		}
		env[name] = value
	}
	return env
}

func readEnvValue(v decode.Value) EnvValue {
	if v.Kind() != decode.Map {
		return EnvValue{Value: decode.Text(v)}
	}
	o := v.Object()
	defer o.Done()
	from := decode.Required(o, "key", decode.Text)
	return EnvValue{From: from}
}

// Sentinels gives the names of the variables that still have no value,
// sorted.
func (e Env) Sentinels() []string {
	var names []string
	for name, value := range e {
		if value.From != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Resolve gives a copy in which every sentinel has its value of lookup (for
// example [os.LookupEnv]). A variable that lookup does not know is an error.
func (e Env) Resolve(lookup func(string) (string, bool)) (Env, error) {
	resolved := maps.Clone(e)
	for _, name := range e.Sentinels() {
		value, ok := lookup(e[name].From)
		if !ok {
			return nil, fmt.Errorf("environment variable %s is not set", e[name].From)
		}
		resolved[name] = EnvValue{Value: value}
	}
	return resolved, nil
}

// Values gives the variables as plain texts. Sentinels are left out.
func (e Env) Values() map[string]string {
	values := make(map[string]string, len(e))
	for name, value := range e {
		if value.From == "" {
			values[name] = value.Value
		}
	}
	return values
}
