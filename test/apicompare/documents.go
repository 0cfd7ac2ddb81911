package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// documents compares the OpenAPI documents of both servers: each call of the
// real one exists in ours, takes every field that it takes, demands no other,
// and answers every field that it answers.
func (r *report) documents(ctx context.Context, real, ours *server) error {
	get := call{Name: "OpenAPI document", As: names{"none"}, Call: "GET /openapi.json"}
	a, errA := real.send(ctx, get)
	b, errB := ours.send(ctx, get)
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	r.calls++
	r.tell(get, compareDocuments(a.body, b.body))
	return nil
}

func compareDocuments(real, ours any) []difference {
	var out []difference
	paths, _ := lookUp(real, "paths")
	tree, _ := paths.(map[string]any)
	for _, path := range slices.Sorted(maps.Keys(tree)) {
		operations, _ := tree[path].(map[string]any)
		for _, method := range slices.Sorted(maps.Keys(operations)) {
			at := strings.ToUpper(method) + " " + path
			same, ok := child(ours, "paths", path, method)
			if !ok {
				out = append(out, difference{at, "is there", "is not"})
				continue
			}
			want := document{real, operations[method]}
			got := document{ours, same}
			for _, field := range missing(want.required(), nil, got.required()) {
				out = append(out, difference{at + " request." + field, "optional", "required"})
			}
			for _, field := range missing(got.takes(), got.any(), want.takes()) {
				out = append(out, difference{at + " request." + field, "taken", "refused"})
			}
			for _, field := range missing(got.answers(), nil, want.answers()) {
				out = append(out, difference{at + " answer." + field, "answered", "missing"})
			}
		}
	}
	return out
}

// missing lists what of want is not in have.
func missing(have, open, want []string) []string {
	if open != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(want), func(s string) bool { return slices.Contains(have, s) })
}

func child(tree any, keys ...string) (any, bool) {
	for _, key := range keys {
		m, ok := tree.(map[string]any)
		if !ok {
			return nil, false
		}
		if tree, ok = m[key]; !ok {
			return nil, false
		}
	}
	return tree, true
}

// document is one operation of a document.
type document struct{ all, operation any }

func (d document) body() []map[string]any {
	content, _ := child(d.operation, "requestBody", "content")
	return d.content(content)
}

// content are the forms that a body may have, without references.
func (d document) content(content any) []map[string]any {
	kinds, _ := content.(map[string]any)
	var out []map[string]any
	for _, kind := range kinds {
		schema, _ := child(kind, "schema")
		out = append(out, d.forms(schema)...)
	}
	return out
}

func (d document) forms(schema any) []map[string]any {
	m, ok := schema.(map[string]any)
	if !ok {
		return nil
	}
	if ref, ok := m["$ref"].(string); ok {
		target, _ := child(d.all, "components", "schemas", ref[strings.LastIndexByte(ref, '/')+1:])
		return d.forms(target)
	}
	var out []map[string]any
	for _, key := range []string{"anyOf", "oneOf"} {
		list, _ := m[key].([]any)
		for _, one := range list {
			out = append(out, d.forms(one)...)
		}
	}
	if items, ok := m["items"]; ok {
		out = append(out, d.forms(items)...)
	}
	if _, ok := m["properties"]; ok {
		out = append(out, m)
	}
	return out
}

// required are the fields that every form of the body has to have.
func (d document) required() []string {
	var out []string
	for i, form := range d.body() {
		list, _ := form["required"].([]any)
		var fields []string
		for _, field := range list {
			fields = append(fields, fmt.Sprint(field))
		}
		if i == 0 {
			out = fields
			continue
		}
		out = slices.DeleteFunc(out, func(s string) bool { return !slices.Contains(fields, s) })
	}
	return out
}

func (d document) takes() []string { return properties(d.body()) }

// any is not nil if some form of the body takes every field.
func (d document) any() []string {
	for _, form := range d.body() {
		if form["additionalProperties"] != false {
			return []string{}
		}
	}
	return nil
}

func (d document) answers() []string {
	content, _ := child(d.operation, "responses", "200", "content")
	return properties(d.content(content))
}

func properties(forms []map[string]any) []string {
	all := map[string]bool{}
	for _, form := range forms {
		fields, _ := form["properties"].(map[string]any)
		for field := range fields {
			all[field] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}
