package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
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
	// Drop names elements of the list that ours answers in addition, by a field
	// and patterns over its text. They are left out before the rest is compared.
	Drop map[string][]string `yaml:"drop"`
	// Chance says that the real server differs only sometimes.
	Chance bool `yaml:"chance"`
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
	ok := a.Drop == nil && a.isFor(c) && matches(*a.Path, d.path) &&
		(a.Real == "" || matches(a.Real, d.real)) && (a.Ours == "" || matches(a.Ours, d.ours))
	if ok {
		a.used++
	}
	return ok
}

func (a *allowance) isFor(c call) bool { return matches(a.Call, c.title()) || matches(a.Call, c.Call) }

// pageSize is how long a list is if the call does not say.
const pageSize = 100

// drop leaves out of ours what the allowance names. If that came from a full
// page, as many elements are left out at the end of the real one.
func (a *allowance) drop(c call, real, ours any) (any, any) {
	x, isList := real.([]any)
	y, areBoth := ours.([]any)
	if a.Drop == nil || !isList || !areBoth || !a.isFor(c) {
		return real, ours
	}
	kept := slices.DeleteFunc(slices.Clone(y), a.dropped)
	if len(kept) == len(y) {
		return real, ours
	}
	a.used++
	size := pageSize
	if limit, ok := lookUp(c.Body, "limit"); ok {
		if n, ok := limit.(int); ok && n > 0 {
			size = n
		}
	}
	if len(y) == size && len(x) == size {
		x = x[:len(kept)]
	}
	return x, kept
}

func (a *allowance) dropped(element any) bool {
	for field, patterns := range a.Drop {
		value, _ := lookUp(element, field)
		text, ok := value.(string)
		if ok && slices.ContainsFunc(patterns, func(p string) bool { return matches(p, text) }) {
			return true
		}
	}
	return false
}

// matches says whether the whole text fits a pattern in which * is anything.
func matches(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`(?s)^` + strings.Join(parts, ".*") + `$`).MatchString(text)
}
