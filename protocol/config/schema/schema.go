// Package schema generates the JSON Schemas of configurations and profiles
// for editors from the types of package config. They accept what the parser
// accepts and reject most of what it rejects; rules between fields are left
// to the parser.
package schema

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"

	"dstack/protocol/config"
)

// node is a piece of a schema.
type node = map[string]any

// dialect is the version of JSON Schema.
const dialect = "https://json-schema.org/draft/2020-12/schema"

// Configuration gives the schema of .dstack.yml.
func Configuration() []byte {
	b := builder{defs: shared()}
	kinds := []struct {
		typ string
		ref node
	}{
		{config.TypeDevEnvironment, b.object(reflect.TypeFor[config.DevEnvironment]())},
		{config.TypeTask, b.object(reflect.TypeFor[config.Task]())},
		{config.TypeService, b.object(reflect.TypeFor[config.Service]())},
		{config.TypeFleet, b.object(reflect.TypeFor[config.Fleet]())},
		{config.TypeGateway, b.object(reflect.TypeFor[config.Gateway]())},
		{config.TypeVolume, b.volume()},
		{config.TypePreset, b.object(reflect.TypeFor[config.Preset]())},
	}
	var types []any
	var rules []any
	for _, kind := range kinds {
		types = append(types, kind.typ)
		rules = append(rules, node{
			"if":   node{"properties": node{"type": node{"const": kind.typ}}, "required": []any{"type"}},
			"then": kind.ref,
		})
	}
	return b.document(node{
		"title":      "dstack configuration",
		"type":       "object",
		"properties": node{"type": node{"enum": types}},
		"required":   []any{"type"},
		"allOf":      rules,
	})
}

// Profiles gives the schema of .dstack/profiles.yml.
func Profiles() []byte {
	b := builder{defs: shared()}
	return b.document(node{
		"title":                "dstack profiles",
		"type":                 "object",
		"properties":           node{"profiles": node{"type": "array", "items": b.object(reflect.TypeFor[config.Profile]())}},
		"required":             []any{"profiles"},
		"additionalProperties": false,
	})
}

// builder collects the definitions that a document refers to.
type builder struct {
	defs node
}

// document writes a schema with all definitions.
func (b *builder) document(root node) []byte {
	root["$schema"], root["$defs"] = dialect, b.defs
	text, err := json.Marshal(root)
	if err != nil { // only maps, lists and texts: cannot happen
		panic(err)
	}
	return text
}

// object gives a reference to the definition of a struct: its fields by their
// names on the wire, no others.
func (b *builder) object(t reflect.Type) node {
	name := t.Name()
	ref := node{"$ref": "#/$defs/" + name}
	if _, ok := b.defs[name]; ok {
		return ref
	}
	def := node{"type": "object", "additionalProperties": false}
	b.defs[name] = def // a type that contains itself finds this one
	properties := node{}
	b.fields(t, t, properties)
	maps.Copy(properties, b.extraFields(name))
	def["properties"] = properties
	if required := requiredFields(name); required != nil {
		def["required"] = required
	}
	if name == "ReplicaGroup" {
		def["anyOf"] = []any{node{"required": []any{"replicas"}}, node{"required": []any{oldReplicas}}}
	}
	return ref
}

// fields adds the fields of a struct and of those embedded in it. outer is the
// struct that has them in the end.
func (b *builder) fields(t, outer reflect.Type, properties node) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			b.fields(f.Type, outer, properties)
			continue
		}
		properties[name] = b.field(outer, t, name, f.Type)
	}
}

// field gives the schema of one field.
func (b *builder) field(outer, declared reflect.Type, name string, t reflect.Type) node {
	schema, ok := b.specialField(outer.Name() + "." + name)
	if !ok {
		schema, ok = b.specialField(declared.Name() + "." + name)
	}
	if !ok {
		schema = b.value(t)
	}
	if nullable(t) {
		schema = anyOf(schema, node{"type": "null"})
	}
	if about := describe(name); about != "" {
		schema = maps.Clone(schema)
		schema["description"] = about
	}
	return schema
}

// nullable says whether null stands for "not set".
func nullable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer:
		return true
	case reflect.Slice, reflect.Map: // List, Map and Env are never null
		return t.Name() == ""
	}
	return false
}

// value gives the schema of a type.
func (b *builder) value(t reflect.Type) node {
	if special, ok := b.specialType(t); ok {
		return special
	}
	switch t.Kind() {
	case reflect.Pointer:
		return b.value(t.Elem())
	case reflect.Slice:
		return node{"type": "array", "items": b.value(t.Elem())}
	case reflect.Map:
		return node{"type": "object", "additionalProperties": b.value(t.Elem())}
	case reflect.Struct:
		return b.object(t)
	case reflect.Bool:
		return boolean()
	case reflect.Int:
		return integer(nil)
	case reflect.Float64:
		return number(nil)
	}
	return text()
}
