package api

import (
	"bytes"
	"encoding/json"
)

// changed lists the fields, by their names on the wire, in which two values
// of one type differ. It compares what clients would see, so that an absent
// field equals its default.
func changed(a, b any) []string {
	x, y := fieldsOf(a), fieldsOf(b)
	var out []string
	for _, name := range sortedKeys(x) {
		if !bytes.Equal(x[name], y[name]) {
			out = append(out, name)
		}
	}
	for _, name := range sortedKeys(y) {
		if _, ok := x[name]; !ok {
			out = append(out, name)
		}
	}
	return out
}

func fieldsOf(v any) map[string]json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return nil
	}
	return m
}
