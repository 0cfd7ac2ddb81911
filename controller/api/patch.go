package api

import (
	"bytes"
	"encoding/json"
	"fmt"

	"dstack/protocol/api"
)

// patched renders an answer for the client's version (spec: rest-api.md 5).
func patched(v clientVersion, out any) ([]byte, error) {
	body, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return repatched(v, body)
}

// repatched does that with an answer that is JSON already.
func repatched(v clientVersion, body []byte) ([]byte, error) {
	services := v.before(0, 21, 3) && bytes.Contains(body, []byte(`"type":"service"`))
	if !services && !v.before(0, 20, 14) {
		return body, nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	body, err := json.Marshal(v.patch(tree))
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return body, nil
}

// patch takes a tree back to what the version knows.
func (v clientVersion) patch(tree any) any {
	switch x := tree.(type) {
	case []any:
		for i := range x {
			x[i] = v.patch(x[i])
		}
	case map[string]any:
		for key, value := range x {
			x[key] = v.patch(value)
		}
		if list, ok := x["fleets"].([]any); ok && v.before(0, 20, 14) {
			for i := range list {
				list[i] = plainReference(list[i])
			}
		}
		if x["type"] == "service" {
			v.patchService(x)
		}
	}
	return tree
}

// patchService undoes what became null, a reference or a group of its own in
// services.
func (v clientVersion) patchService(s map[string]any) {
	if s["probes"] == nil && v.before(0, 20, 8) {
		s["probes"] = []any{}
	}
	if s["https"] == nil && v.before(0, 20, 12) {
		s["https"] = true
	}
	if v.before(0, 20, 20) {
		s["gateway"] = plainReference(s["gateway"])
	}
	groups, ok := s["groups"].([]any)
	if !ok {
		return
	}
	for _, g := range groups {
		if group, ok := g.(map[string]any); ok {
			group["count"] = group["replicas"]
			delete(group, "replicas")
		}
	}
	s["replicas"], s["groups"] = groups, nil
}

// plainReference is NAME or PROJECT/NAME.
func plainReference(v any) any {
	m, ok := v.(map[string]any)
	name, named := m["name"].(string)
	if !ok || !named {
		return v
	}
	if project, ok := m["project"].(string); ok {
		return project + "/" + name
	}
	return name
}

// withNodes fills in the nodes of a task: clients that send a version expect
// a number in every run specification.
func withNodes(v clientVersion, s api.RunSpec) api.RunSpec {
	t := s.Configuration.Task
	if !v.sent || t == nil || t.Groups != nil || t.Nodes != nil {
		return s
	}
	filled := *t
	filled.Nodes = new(1)
	s.Configuration.Task = &filled
	return s
}

// oldWorkingDir gives an effective specification from a client before 0.19.27
// the folder that such clients mean by none.
func oldWorkingDir(v clientVersion, s *api.RunSpec) {
	if base := s.Configuration.Base(); v.before(0, 19, 27) && base.WorkingDir == nil {
		base.WorkingDir = new("/workflow")
	}
}
