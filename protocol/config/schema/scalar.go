package schema

import (
	"maps"
	"strings"
)

// Texts of YAML that stand for a number or a boolean.
const (
	intPattern      = `^\s*[+-]?\d+(_\d+)*(\.0+)?\s*$`
	floatPattern    = `^\s*[+-]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][+-]?\d+)?\s*$`
	sizePattern     = `^ *[+-]? *(\d[\d _]*\.?[\d _]*|\.\d[\d _]*)([eE][+-]?\d+)? *([mMgGtT] *[bB])? *$`
	durationPattern = `^(\d+ *[smhdw]|\s*[+-]?\d+(_\d+)*\s*)$`
	rangePattern    = `^[^.]*(\.[^.]+)?\.\. *[^.]*(\.[^.]+)?$`
)

// text is a string; numbers become one.
func text() node { return node{"type": []any{"string", "number"}} }

// enum is one of a few words.
func enum(words ...string) node {
	list := make([]any, len(words))
	for i, word := range words {
		list[i] = word
	}
	return node{"enum": list}
}

// pattern is a string that matches.
func pattern(p string) node { return node{"type": "string", "pattern": p} }

// length is a string of some length; high 0 is no limit.
func length(low, high int) node {
	s := node{"type": []any{"string", "number"}, "minLength": low}
	if high > 0 {
		s["maxLength"] = high
	}
	return s
}

// shared are the definitions that every document has, so that they are written
// once.
func shared() node {
	return node{"boolean": anyBoolean(), "size": anySize(), "duration": anyDuration()}
}

func boolean() node  { return node{"$ref": "#/$defs/boolean"} }
func size() node     { return node{"$ref": "#/$defs/size"} }
func duration() node { return node{"$ref": "#/$defs/duration"} }

// anyBoolean is a boolean in every spelling of YAML 1.1: editors read them as
// strings.
func anyBoolean() node {
	words := []any{0, 1}
	for _, word := range []string{"true", "false", "t", "f", "yes", "no", "y", "n", "on", "off", "1", "0"} {
		for _, spelled := range []string{word, strings.ToUpper(word[:1]) + word[1:], strings.ToUpper(word)} {
			if len(words) == 2 || words[len(words)-1] != spelled {
				words = append(words, spelled)
			}
		}
	}
	return anyOf(node{"type": "boolean"}, node{"enum": words})
}

// integer is a whole number with limits, or a text of one.
func integer(limits node) node {
	exact := node{"type": "integer"}
	maps.Copy(exact, limits)
	return anyOf(exact, pattern(intPattern))
}

// number is a number with limits, or a text of one.
func number(limits node) node {
	exact := node{"type": "number"}
	maps.Copy(exact, limits)
	return anyOf(exact, pattern(floatPattern))
}

// least is a lower limit.
func least(low int) node { return node{"minimum": low} }

// anySize is gigabytes, or a text with a unit.
func anySize() node {
	return anyOf(node{"type": []any{"number", "boolean"}}, pattern(sizePattern))
}

// anyDuration is seconds, or a text with a unit.
func anyDuration() node {
	return anyOf(node{"type": []any{"number", "boolean"}}, pattern(durationPattern))
}

// offable is a duration that can be switched off.
func offable() node { return anyOf(duration(), enum("off")) }

// anyOf is one of several forms; forms of forms are flattened.
func anyOf(forms ...node) node {
	var all []any
	for _, form := range forms {
		if inner, ok := form["anyOf"].([]any); ok && len(form) == 1 {
			all = append(all, inner...)
			continue
		}
		all = append(all, form)
	}
	return node{"anyOf": all}
}

// list is an array of items with at least low and at most high of them; high
// 0 is no limit.
func list(items node, low, high int) node {
	s := node{"type": "array", "items": items}
	if low > 0 {
		s["minItems"] = low
	}
	if high > 0 {
		s["maxItems"] = high
	}
	return s
}

// fieldsOf is an object with exactly the given fields, of which some are
// required.
func fieldsOf(properties node, required ...any) node {
	s := node{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// rangeOf is an interval: one bound for both ends, a text with "..", or an
// object.
func rangeOf(bound node) node {
	ends := fieldsOf(node{"min": orNull(bound), "max": orNull(bound)})
	ends["minProperties"] = 1
	return anyOf(bound, pattern(rangePattern), ends)
}

func orNull(s node) node { return anyOf(s, node{"type": "null"}) }
