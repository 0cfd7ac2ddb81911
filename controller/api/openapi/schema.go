package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// mode is which side writes the value.
type mode int

const (
	// input is what clients may send: shorthands, defaults.
	input mode = iota
	// output is what the server sends: every field, in its normal form.
	output
)

// schemas collects the named schemas.
type schemas struct {
	named object
	done  map[key]string
}

type key struct {
	t reflect.Type
	m mode
}

func newSchemas() *schemas { return &schemas{named: object{}, done: map[key]string{}} }

// of describes values of a type.
func (s *schemas) of(t reflect.Type, m mode) (object, error) {
	if schema, known, err := s.special(t, m); known {
		return schema, err
	}
	if values := enumOf(t); values != nil {
		return object{"type": "string", "enum": values}, nil
	}
	if m == input && hasShorthand(t) {
		schema, err := s.structure(t, m)
		return shorthand(schema), err
	}
	return s.plain(t, m)
}

// plain describes values whose JSON is what Go makes of the type.
func (s *schemas) plain(t reflect.Type, m mode) (object, error) {
	switch t.Kind() {
	case reflect.Pointer:
		return s.maybe(t.Elem(), m)
	case reflect.Struct:
		if opaque(t) {
			return nil, fmt.Errorf("%s writes its own JSON: say in specials.go what it looks like", t)
		}
		return s.structure(t, m)
	case reflect.Slice, reflect.Array:
		return s.list(t, m)
	case reflect.Map:
		value, err := s.of(t.Elem(), m)
		schema := object{"type": "object", "additionalProperties": value}
		if opaque(t) { // never null
			return schema, err
		}
		return nullable(schema), err
	case reflect.String:
		return object{"type": "string"}, nil
	case reflect.Bool:
		return object{"type": "boolean"}, nil
	case reflect.Int, reflect.Int32, reflect.Int64:
		return object{"type": "integer"}, nil
	case reflect.Float64:
		return object{"type": "number"}, nil
	case reflect.Interface:
		return object{}, nil
	}
	return nil, fmt.Errorf("%s cannot be described", t)
}

// maybe describes what a pointer points to, or null.
func (s *schemas) maybe(t reflect.Type, m mode) (object, error) {
	schema, err := s.of(t, m)
	return nullable(schema), err
}

func (s *schemas) list(t reflect.Type, m mode) (object, error) {
	if t.Elem().Kind() == reflect.Uint8 {
		if t == reflect.TypeFor[json.RawMessage]() {
			return object{}, nil
		}
		return nullable(object{"type": "string", "contentEncoding": "base64"}), nil
	}
	items, err := s.of(t.Elem(), m)
	if opaque(t) || m == input { // a list that is never null
		return array(items), err
	}
	return nullable(array(items)), err
}

// opaque says whether a type writes its own JSON.
func opaque(t reflect.Type) bool { return t.Implements(reflect.TypeFor[json.Marshaler]()) }

// structure names the schema of a struct, describes it, and refers to it.
func (s *schemas) structure(t reflect.Type, m mode) (object, error) {
	if t.Name() == "" {
		return s.fields(t, m)
	}
	k := key{t, m}
	if name, ok := s.done[k]; ok {
		return reference(name), nil
	}
	name := schemaName(t, m)
	if _, taken := s.named[name]; taken {
		return nil, fmt.Errorf("two types are called %s", name)
	}
	s.done[k] = name
	s.named[name] = object{} // taken, while its fields are described
	schema, err := s.fields(t, m)
	s.named[name] = schema
	return reference(name), err
}

// fields describes a struct in place.
func (s *schemas) fields(t reflect.Type, m mode) (object, error) {
	properties, required := object{}, []string{}
	if err := s.collect(t, m, properties, &required); err != nil {
		return nil, err
	}
	schema := object{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		slices.Sort(required)
		schema["required"] = required
	}
	return schema, nil
}

func (s *schemas) collect(t reflect.Type, m mode, properties object, required *[]string) error {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			if err := s.embedded(f.Type, m, properties, required); err != nil {
				return err
			}
			continue
		}
		if name == "-" || !f.IsExported() {
			continue
		}
		schema, err := s.of(f.Type, m)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", t.Name(), f.Name, err)
		}
		optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		if m == input {
			schema = inputField(f, schema, optional)
			optional = optional || f.Type.Kind() == reflect.Pointer || isConfig(t)
		}
		if m == input && isConfig(t) {
			schema = looser(f.Type, schema)
		}
		properties[name] = schema
		if !optional {
			*required = append(*required, name)
		}
	}
	return nil
}

// embedded adds the fields of an embedded struct; those behind a pointer may
// all be missing.
func (s *schemas) embedded(t reflect.Type, m mode, properties object, required *[]string) error {
	if t.Kind() == reflect.Pointer {
		return s.collect(t.Elem(), m, properties, new([]string))
	}
	return s.collect(t, m, properties, required)
}

// inputField adds what the tags of a request's field say
// (see protocol/api/request.go).
func inputField(f reflect.StructField, schema object, optional bool) object {
	if f.Tag.Get("null") == "no" {
		schema = notNull(schema)
	}
	if f.Tag.Get("as") == "uuid" {
		schema = withFormat(schema)
	}
	if optional && f.Type.Kind() == reflect.Slice && f.Tag.Get("null") != "no" {
		schema = nullable(schema)
	}
	return schema
}

// looser allows what configurations have shorthands for: durations and sizes
// as texts, one value in place of a list, a list of NAME=VALUE.
func looser(t reflect.Type, schema object) object {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Int, reflect.Float64:
		return anyOf(schema, object{"type": []string{"string", "number"}})
	case reflect.Slice, reflect.Map:
		return anyOf(schema, object{"type": []string{"string", "array", "null"}})
	}
	return schema
}

// withFormat says of strings, alone or in lists, that they are UUIDs.
func withFormat(schema object) object {
	out := maps.Clone(schema)
	if schema["type"] == "string" {
		out["format"] = "uuid"
	}
	if items, ok := schema["items"].(object); ok {
		out["items"] = withFormat(items)
	}
	if forms, ok := schema["anyOf"].([]any); ok {
		var list []any
		for _, one := range forms {
			if o, ok := one.(object); ok {
				one = withFormat(o)
			}
			list = append(list, one)
		}
		out["anyOf"] = list
	}
	return out
}

func nullable(schema object) object {
	if len(schema) == 0 {
		return schema // anything
	}
	if forms, ok := schema["anyOf"].([]any); ok {
		for _, one := range forms {
			if o, ok := one.(object); ok && o["type"] == "null" {
				return schema
			}
		}
	}
	return object{"anyOf": []any{schema, object{"type": "null"}}}
}

// notNull undoes nullable.
func notNull(schema object) object {
	forms, ok := schema["anyOf"].([]any)
	if !ok || len(forms) != 2 {
		return schema
	}
	if first, ok := forms[0].(object); ok {
		return first
	}
	return schema
}

func array(items object) object { return object{"type": "array", "items": items} }

// closed is an object that has all of these fields and no others.
func closed(properties object) object {
	return object{
		"type": "object", "properties": properties, "required": slices.Sorted(maps.Keys(properties)), "additionalProperties": false,
	}
}
