// Command configcompare reads documents with our parser and compares verdict,
// normalised form and the place of the first error with those of 0.22.5:
//
//	configcompare CASES.jsonl
//
// A line is {"name", "kind": "apply|profile|server-config", "yaml", "valid"}
// with "normalized" or "error_gist" (spec: configuration.md 15). It prints
// what differs and exits 1 if anything does.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"dstack/protocol/config"
)

// testCase is one line.
type testCase struct {
	Name       string          `json:"name"`
	Kind       string          `json:"kind"`
	YAML       string          `json:"yaml"`
	Valid      bool            `json:"valid"`
	Normalized json.RawMessage `json:"normalized"`
	ErrorGist  string          `json:"error_gist"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: configcompare CASES.jsonl")
		os.Exit(2)
	}
	f, err := os.Open(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	defer f.Close()
	total, differ, err := compareAll(f, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2) //nolint:gocritic // the file was only read
	}
	fmt.Printf("%d cases, %d differ\n", total, differ)
	if differ > 0 || total == 0 {
		os.Exit(1)
	}
}

// compareAll compares every line and writes the differences to out.
func compareAll(in io.Reader, out io.Writer) (total, differ int, err error) {
	lines := bufio.NewReader(in)
	for {
		line, readErr := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			total++
			var c testCase
			if err := json.Unmarshal(line, &c); err != nil {
				return total, differ, fmt.Errorf("line %d: %w", total, err)
			}
			problem, err := compare(c)
			if err != nil {
				return total, differ, fmt.Errorf("line %d, %s: %w", total, c.Name, err)
			}
			if problem != "" {
				differ++
				fmt.Fprintf(out, "%s: %s\n%s\n", c.Name, problem, indent(c.YAML))
			}
		}
		if readErr == io.EOF {
			return total, differ, nil
		}
		if readErr != nil {
			return total, differ, readErr
		}
	}
}

// compare says how ours differs; "" means not at all.
func compare(c testCase) (string, error) {
	value, parseErr := parse(c)
	if errors.Is(parseErr, errKind) {
		return "", parseErr
	}
	switch {
	case c.Valid && parseErr != nil:
		return "must be accepted, is rejected: " + parseErr.Error(), nil //nolint:nilerr // the verdict is what is compared
	case !c.Valid && parseErr == nil:
		return "must be rejected: " + c.ErrorGist, nil
	case !c.Valid:
		if place := firstPath(c.ErrorGist); !strings.Contains(parseErr.Error(), place) {
			return fmt.Sprintf("error must name %q:\n%v", place, parseErr), nil
		}
		return "", nil
	}
	ours, err := json.Marshal(value)
	if err != nil {
		return "", fmt.Errorf("write: %w", err)
	}
	var want, got any
	if err := json.Unmarshal(c.Normalized, &want); err != nil {
		return "", fmt.Errorf("normalized: %w", err)
	}
	if err := json.Unmarshal(ours, &got); err != nil {
		return "", fmt.Errorf("our own: %w", err)
	}
	return strings.Join(diff("", want, got), "\n"), nil
}

var errKind = errors.New("kind must be apply, profile or server-config")

// parse reads a document of any kind.
func parse(c testCase) (any, error) {
	data := []byte(c.YAML)
	switch c.Kind {
	case "apply":
		a, err := config.DecodeApply("", data)
		return applied(a), err
	case "profile":
		profiles, err := config.DecodeProfiles("", data)
		return map[string]any{"profiles": config.List[config.Profile](profiles)}, err
	case "server-config":
		return config.DecodeServer("", data, config.OSFile)
	}
	return nil, errKind
}

// applied is the configuration that is set.
func applied(a config.Apply) any {
	switch {
	case a.Fleet != nil:
		return a.Fleet
	case a.Gateway != nil:
		return a.Gateway
	case a.Volume != nil:
		return a.Volume
	case a.Preset != nil:
		return a.Preset
	}
	return a.Run
}

// firstPath is the field that a gist begins with: "ports.0: reason"; "" if
// it names none.
func firstPath(gist string) string {
	path, _, ok := strings.Cut(gist, ": ")
	if !ok || strings.Contains(path, " ") {
		return ""
	}
	return path
}

// diff lists the places at which two JSON values differ.
func diff(path string, want, got any) []string {
	if w, ok := want.(map[string]any); ok {
		if g, ok := got.(map[string]any); ok {
			return diffMaps(path, w, g)
		}
	}
	if w, ok := want.([]any); ok {
		if g, ok := got.([]any); ok && len(w) == len(g) {
			var all []string
			for i := range w {
				all = append(all, diff(fmt.Sprintf("%s.%d", path, i), w[i], g[i])...)
			}
			return all
		}
	}
	if reflect.DeepEqual(want, got) {
		return nil
	}
	return []string{fmt.Sprintf("%s must be %s, is %s", strings.TrimPrefix(path, "."), short(want), short(got))}
}

func diffMaps(path string, want, got map[string]any) []string {
	var all []string
	for key, w := range want {
		g, ok := got[key]
		if !ok {
			all = append(all, fmt.Sprintf("%s is missing", strings.TrimPrefix(path+"."+key, ".")))
			continue
		}
		all = append(all, diff(path+"."+key, w, g)...)
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			all = append(all, fmt.Sprintf("%s must not be there", strings.TrimPrefix(path+"."+key, ".")))
		}
	}
	return all
}

func short(v any) string {
	text, err := json.Marshal(v)
	if err != nil { // it came from JSON: cannot happen
		return err.Error()
	}
	return string(text)
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    ")
}
