package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A sequence is a file or a folder of calls. Each gets fresh servers.
type sequence struct {
	// Env are NAME: VALUE additions to the environment of both servers.
	Env map[string]string `yaml:"env"`
	// Config is the config.yml of both servers.
	Config string `yaml:"config"`
	Calls  []call `yaml:"calls"`
}

// A call is one request to both servers.
type call struct {
	Name string `yaml:"name"`
	// As names who calls: "none" sends no token; any other NAME sends the
	// saved value NAME.token. A list makes one call for each.
	As names `yaml:"as"`
	// Call is "METHOD /path", or a path below POST /api/.
	Call    string            `yaml:"call"`
	Headers map[string]string `yaml:"headers"`
	// Body is sent as JSON; Each makes one call for each of its bodies.
	Body any   `yaml:"body"`
	Each []any `yaml:"each"`
	// Raw is a body to send as it is.
	Raw *string `yaml:"raw"`
	// Type replaces the content type application/json; "none" sends none.
	Type string `yaml:"type"`
	// File makes the body a form with one file.
	File *upload `yaml:"file"`
	// Save maps names to paths in the answer; ${NAME} in later calls is the
	// value, which is each server's own.
	Save map[string]string `yaml:"save"`
	// Until repeats the call until the answer has these values at these paths.
	Until map[string]any `yaml:"until"`
	// Sort orders lists in the answer whose order means nothing: path to the
	// list, field to sort by ("" sorts by the whole element).
	Sort map[string]string `yaml:"sort"`
}

// upload is a file in a form.
type upload struct {
	Field string `yaml:"field"`
	Name  string `yaml:"name"`
	Text  string `yaml:"text"`
}

// names is one name or a list of names.
type names []string

func (n *names) UnmarshalYAML(node *yaml.Node) error {
	var one string
	if node.Decode(&one) == nil {
		*n = names{one}
		return nil
	}
	var many []string
	if err := node.Decode(&many); err != nil {
		return fmt.Errorf("as: a name or a list of names: %w", err)
	}
	*n = many
	return nil
}

// load reads a file of calls, or all files of a folder as one sequence, and
// spreads out "as" and "each".
func load(path string) (sequence, error) {
	files := []string{path}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*.yml")); err != nil {
			return sequence{}, fmt.Errorf("list calls: %w", err)
		}
	}
	all := sequence{Env: map[string]string{}}
	for _, file := range files {
		s, err := loadFile(file)
		if err != nil {
			return all, err
		}
		maps.Copy(all.Env, s.Env)
		all.Config += s.Config
		all.Calls = append(all.Calls, spread(s.Calls)...)
	}
	return all, nil
}

func loadFile(path string) (s sequence, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return s, fmt.Errorf("read calls: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return s, fmt.Errorf("read calls in %s: %w", path, err)
	}
	return s, nil
}

func spread(calls []call) []call {
	var out []call
	for _, c := range calls {
		if len(c.As) == 0 {
			c.As = names{"admin"}
		}
		if !strings.Contains(c.Call, " ") {
			c.Call = "POST /api/" + c.Call
		}
		bodies := c.Each
		if bodies == nil {
			bodies = []any{c.Body}
		}
		for _, as := range c.As {
			for i, body := range bodies {
				one := c
				one.As, one.Body, one.Each = names{as}, body, nil
				if one.Name == "" {
					one.Name = c.Call
				}
				if len(bodies) > 1 {
					one.Name += " #" + strconv.Itoa(i+1)
				}
				out = append(out, one)
			}
		}
	}
	return out
}

// title names the call in reports and for the patterns of allowances.
func (c call) title() string { return c.Name + " (" + c.As[0] + ")" }

// patience is how long "until" waits.
const patience = 30 * time.Second

var variable = regexp.MustCompile(`\$\{([^}]+)\}`)

// vars are the saved values of one server.
type vars map[string]any

// text fills in the variables of a string.
func (v vars) text(s string) string {
	return variable.ReplaceAllStringFunc(s, func(m string) string {
		value, ok := v[m[2:len(m)-1]]
		if !ok {
			return m
		}
		if s, ok := value.(string); ok {
			return s
		}
		data, err := json.Marshal(value)
		if err != nil {
			return m
		}
		return string(data)
	})
}

// fill fills in the variables of a body; a string that is nothing but a
// variable becomes the value itself.
func (v vars) fill(body any) any {
	switch x := body.(type) {
	case string:
		if m := variable.FindStringSubmatch(x); m != nil && m[0] == x {
			if value, ok := v[m[1]]; ok {
				return value
			}
		}
		return v.text(x)
	case []any:
		out := make([]any, len(x))
		for i := range x {
			out[i] = v.fill(x[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(x))
		for key, value := range x {
			out[v.text(key)] = v.fill(value)
		}
		return out
	}
	return body
}

// lookUp finds the value at a path such as "jobs.0.id"; "" is the whole.
func lookUp(tree any, path string) (any, bool) {
	if path == "" {
		return tree, true
	}
	for key := range strings.SplitSeq(path, ".") {
		switch x := tree.(type) {
		case map[string]any:
			value, ok := x[key]
			if !ok {
				return nil, false
			}
			tree = value
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(x) {
				return nil, false
			}
			tree = x[i]
		default:
			return nil, false
		}
	}
	return tree, true
}
