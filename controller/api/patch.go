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
	if !v.before(0, 20, 14) {
		return body, nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if body, err = json.Marshal(plainFleets(tree)); err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return body, nil
}

// plainFleets turns references to fleets into strings, as clients before
// 0.20.14 know them.
func plainFleets(tree any) any {
	switch x := tree.(type) {
	case []any:
		for i := range x {
			x[i] = plainFleets(x[i])
		}
	case map[string]any:
		for key, value := range x {
			list, ok := value.([]any)
			if key != "fleets" || !ok {
				x[key] = plainFleets(value)
				continue
			}
			for i := range list {
				list[i] = plainReference(list[i])
			}
		}
	}
	return tree
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
