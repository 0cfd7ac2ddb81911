package api

import (
	"bytes"
	"encoding/json"
)

// changed lists the fields, by their names and in their order on the wire, in
// which two values of one type differ. It compares what clients would see, so
// that an absent field equals its default.
func changed(a, b any) []string {
	names, x := fieldsOf(a)
	more, y := fieldsOf(b)
	for _, name := range more {
		if _, ok := x[name]; !ok {
			names = append(names, name)
		}
	}
	var out []string
	for _, name := range names {
		if !bytes.Equal(x[name], y[name]) {
			out = append(out, name)
		}
	}
	return out
}

// fieldsOf are the fields of a value and their names in order.
func fieldsOf(v any) ([]string, map[string]json.RawMessage) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if _, err := dec.Token(); err != nil { // the opening brace
		return nil, nil
	}
	var names []string
	fields := map[string]json.RawMessage{}
	for dec.More() {
		key, err := dec.Token()
		name, ok := key.(string)
		var value json.RawMessage
		if err != nil || !ok || dec.Decode(&value) != nil {
			return nil, nil
		}
		names = append(names, name)
		fields[name] = value
	}
	return names, fields
}
