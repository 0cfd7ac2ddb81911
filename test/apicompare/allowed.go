package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// allowance is a difference that we want.
type allowance struct {
	// Call and Path are patterns over the call's title or "METHOD /path", and
	// over the path in the answer: * is anything.
	Call string  `yaml:"call"`
	Path *string `yaml:"path"`
	// Real and Ours, if given, are patterns over the two values as JSON.
	Real string `yaml:"real"`
	Ours string `yaml:"ours"`
	// Reason says why ours is better.
	Reason string `yaml:"reason"`

	used int
}

func loadAllowed(path string) ([]*allowance, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read allowances: %w", err)
	}
	var list []*allowance
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&list); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read allowances in %s: %w", path, err)
	}
	for i, a := range list {
		if a.Call == "" || a.Path == nil || a.Reason == "" {
			return nil, fmt.Errorf("allowance %d in %s: call, path and reason are needed", i+1, path)
		}
	}
	return list, nil
}

// covers says whether the allowance is for this difference, and counts.
func (a *allowance) covers(c call, d difference) bool {
	ok := (matches(a.Call, c.title()) || matches(a.Call, c.Call)) && matches(*a.Path, d.path) &&
		(a.Real == "" || matches(a.Real, d.real)) && (a.Ours == "" || matches(a.Ours, d.ours))
	if ok {
		a.used++
	}
	return ok
}

// matches says whether the whole text fits a pattern in which * is anything.
func matches(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`(?s)^` + strings.Join(parts, ".*") + `$`).MatchString(text)
}
