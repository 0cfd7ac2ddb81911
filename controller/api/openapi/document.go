// Package openapi describes the REST API as an OpenAPI 3.1 document. It is
// made from the Go types that the server decodes and encodes, so it cannot say
// anything else than what the server does.
package openapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
)

// Route is one endpoint.
type Route struct {
	Method string
	// Path has its parameters as ":name".
	Path  string
	Shape Shape
	// Open is for everybody, without a token.
	Open bool
}

// Shape is what an endpoint takes and gives.
type Shape struct {
	// In is the type of the body; nil if there is none.
	In reflect.Type
	// Optional lets the body be missing.
	Optional bool
	// Form is the name of the file in a form that replaces a JSON body.
	Form string
	// Query are the parameters after the path.
	Query []Parameter
	// Out is the type of the answer; nil answers null. Forms, if there are
	// any, are the types that it may have, and Out does not matter.
	Out   reflect.Type
	Forms []reflect.Type
	// Type is the content type of the answer; "" is application/json. JSON
	// lines are described by Out, other types by text alone.
	Type string
}

// Parameter is one parameter of the query. Its schema is that of a Go type.
type Parameter struct {
	Name     string
	Type     reflect.Type
	Required bool
}

// QueryOf makes a parameter of each field of a struct.
func QueryOf(t reflect.Type) []Parameter {
	var out []Parameter
	for field := range t.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		required := options != "omitempty" && field.Type.Kind() != reflect.Pointer
		p := Parameter{Name: name, Type: field.Type, Required: required}
		if !required && field.Type.Kind() == reflect.Pointer {
			p.Type = field.Type.Elem()
		}
		out = append(out, p)
	}
	return out
}

const (
	jsonType  = "application/json"
	linesType = "application/x-ndjson"
)

// Types of answers that are no content type.
const (
	// WebSocket: the connection becomes one.
	WebSocket = "websocket"
	// Anything: it is up to a service.
	Anything = "*/*"
)

// object is a JSON object.
type object = map[string]any

// Document makes the document. The error names a type that cannot be
// described.
func Document(version string, routes []Route) ([]byte, error) {
	s := newSchemas()
	paths := object{}
	for _, r := range routes {
		path, parameters := pathParameters(r.Path)
		operation, err := s.operation(r, parameters)
		if err != nil {
			return nil, fmt.Errorf("describe %s %s: %w", r.Method, r.Path, err)
		}
		item, ok := paths[path].(object)
		if !ok {
			item = object{}
			paths[path] = item
		}
		item[strings.ToLower(r.Method)] = operation
	}
	for name, schema := range errorSchemas() {
		s.named[name] = schema
	}
	return json.Marshal(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "dstack REST API", "version": version,
			"description": "Calls are POST with a JSON body. An error has a list of {msg, code} (400, 422) or a text. " +
				"Clients send their version as X-API-VERSION.",
		},
		"paths": paths,
		"components": object{
			"schemas":         s.named,
			"securitySchemes": object{"Bearer": object{"type": "http", "scheme": "bearer"}},
		},
	})
}

// pathParameters turns /api/:name into /api/{name} and lists the names.
func pathParameters(path string) (string, []string) {
	parts := strings.Split(path, "/")
	var names []string
	for i, part := range parts {
		if name := strings.TrimLeft(part, ":*"); name != part {
			parts[i] = "{" + name + "}"
			names = append(names, name)
		}
	}
	return strings.Join(parts, "/"), names
}

func (s *schemas) operation(r Route, pathNames []string) (object, error) {
	answer, err := s.answer(r.Shape)
	if err != nil {
		return nil, err
	}
	responses := object{"200": answer}
	if r.Shape.Type == WebSocket {
		responses = object{
			"101": object{"description": "A WebSocket: its binary messages are a stream of bytes."},
			"426": errorResponse("The request is no handshake of a WebSocket.", "NotFound"),
		}
	}
	for _, status := range r.statuses(slices.Contains(pathNames, "project_name")) {
		responses[status] = errorResponses[status]
		if r.proxied() && status != "422" {
			responses[status] = proxyResponse(status)
		}
	}
	if r.Shape.Form != "" {
		responses["400"] = uploadRefused()
	}
	out := object{
		"operationId": operationID(r), "summary": Summary(r.Method, r.Path), "tags": []string{tag(r.Path)}, "responses": responses,
	}
	parameters := []object{}
	for _, name := range pathNames {
		parameters = append(parameters, object{"name": name, "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, q := range r.Shape.Query {
		schema, err := s.of(q.Type, input)
		if err != nil {
			return nil, err
		}
		parameters = append(parameters, object{"name": q.Name, "in": "query", "required": q.Required, "schema": schema})
	}
	if strings.HasPrefix(r.Path, "/api/") {
		parameters = append(parameters, object{
			"name": "X-API-VERSION", "in": "header", "required": false, "description": "The client's version, such as 0.22.5.",
			"schema": object{"type": "string"},
		})
	}
	if len(parameters) > 0 {
		out["parameters"] = parameters
	}
	if !r.Open {
		out["security"] = []object{{"Bearer": []string{}}}
	}
	body, err := s.body(r.Shape)
	if body != nil {
		out["requestBody"] = body
	}
	return out, err
}

// statuses are those of the errors that the endpoint can answer.
func (r Route) statuses(project bool) []string {
	if r.Path == "/metrics" { // it is switched off, or wants a token of its own
		return []string{"403", "404"}
	}
	if r.proxied() {
		return r.proxyStatuses()
	}
	if !strings.HasPrefix(r.Path, "/api/") {
		return nil
	}
	out := []string{"400"}
	if !r.Open {
		out = append(out, "401", "403")
	}
	if project {
		out = append(out, "404")
	}
	if r.Shape.In != nil || r.Shape.Form != "" || len(r.Shape.Query) > 0 ||
		strings.Contains(r.Path, "backend_name") { // one of a closed list
		out = append(out, "422")
	}
	return out
}

func (s *schemas) body(shape Shape) (object, error) {
	if shape.Form != "" {
		return object{"required": true, "content": object{"multipart/form-data": object{"schema": object{
			"type": "object", "required": []string{shape.Form},
			"properties": object{shape.Form: object{"type": "string", "format": "binary"}},
		}}}}, nil
	}
	if shape.In == nil {
		return nil, nil //nolint:nilnil // no body
	}
	schema, err := s.of(shape.In, input)
	if err != nil {
		return nil, err
	}
	if shape.Optional {
		schema = nullable(schema)
	}
	return object{"required": !shape.Optional, "content": object{jsonType: object{"schema": schema}}}, nil
}

func (s *schemas) answer(shape Shape) (object, error) {
	kind := shape.Type
	if kind == "" {
		kind = jsonType
	}
	schema := object{"type": "null"}
	switch {
	case len(shape.Forms) > 0:
		var forms []any
		for _, form := range shape.Forms {
			one, err := s.of(form, output)
			if err != nil {
				return nil, err
			}
			forms = append(forms, one)
		}
		schema = object{"anyOf": forms}
	case kind == Anything:
		schema = object{}
	case shape.Out == nil && kind != jsonType:
		schema = object{"type": "string"}
	case shape.Out != nil:
		var err error
		if schema, err = s.of(shape.Out, output); err != nil {
			return nil, err
		}
	}
	description := "The answer."
	if kind == linesType {
		description = "One JSON value a line, and empty lines in between: " + fmt.Sprint(schema["$ref"]) + "."
		schema = object{"type": "string"}
	}
	return object{"description": description, "content": object{kind: object{"schema": schema}}}, nil
}

func operationID(r Route) string {
	var parts []string
	for part := range strings.SplitSeq(r.Path, "/") {
		if part != "" && part != "api" && !strings.HasPrefix(part, ":") && !strings.HasPrefix(part, "*") {
			parts = append(parts, part)
		}
	}
	id := strings.Join(parts, "_")
	if strings.Contains(r.Path, ":path") || strings.Contains(r.Path, "*path") {
		id += "_path"
	}
	if r.Method != http.MethodPost {
		id = strings.ToLower(r.Method) + "_" + id
	}
	return id
}

// tag groups routes by what they are about.
func tag(path string) string {
	path = strings.TrimPrefix(path, "/api/")
	path = strings.TrimPrefix(path, "project/:project_name/")
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return name
}
