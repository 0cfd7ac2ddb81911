package decode

import (
	"fmt"
	"strconv"
	"strings"
)

// Tag is an element of a location that 0.22.5 reports to REST clients
// (the kind of a union), but that no user typed.
type Tag string

// Error says what is wrong at one place of a document.
type Error struct {
	// Path is the file, as the user named it; empty for REST bodies.
	Path string
	// Line and Column count from 1; 0 if unknown (JSON).
	Line, Column int
	// Field is the dotted path of the field: "ports.0.local_port"; empty for
	// the whole document.
	Field string
	// Message says what is wrong or what is expected.
	Message string
	// Found is the offending value as the user may see it; empty if it is
	// long or may be a secret.
	Found string
	// Allowed lists the accepted forms.
	Allowed string
	// Hint is what to do: "did you mean `commands`?".
	Hint string

	// Type is the error's kind in the words of 0.22.5: "missing", "int_type".
	Type string
	// Wire is the message for REST clients; empty if it follows from Type and
	// Message.
	Wire string
	// Loc is where in the document: names, indexes and Tags.
	Loc []any
}

// Error gives one line: file:line:column: field: what, allowed.
func (e Error) Error() string {
	var b strings.Builder
	if e.Path != "" {
		b.WriteString(e.Path + ":")
	}
	if e.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", e.Line, e.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.text())
	return b.String()
}

// text is the message with what was found and what is allowed.
func (e Error) text() string {
	s := e.Message
	if e.Found != "" {
		s += ", found " + e.Found
	}
	if e.Allowed != "" {
		s += ", allowed: " + e.Allowed
	}
	if e.Hint != "" {
		s += ", " + e.Hint
	}
	return s
}

// Errors are all errors of a document, in its order. It is never empty when
// it is returned as an error.
type Errors []Error

// Error gives one line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Detail is one error in the 422 answer of 0.22.5. It has no "input": that
// may hold a secret.
type Detail struct {
	Type string `json:"type"`
	Loc  []any  `json:"loc"`
	Msg  string `json:"msg"`
}

// Details gives the errors as the "detail" of a 422 answer.
func (e Errors) Details() []Detail {
	details := make([]Detail, len(e))
	for i, one := range e {
		loc := append([]any{"body"}, one.Loc...)
		for j, part := range loc {
			if tag, ok := part.(Tag); ok {
				loc[j] = string(tag)
			}
		}
		details[i] = Detail{Type: one.Type, Loc: loc, Msg: one.wire()}
	}
	return details
}

// wire is the message as 0.22.5 words it.
func (e Error) wire() string {
	if e.Wire != "" {
		return e.Wire
	}
	if text := wireTexts[e.Type]; text != "" {
		return text
	}
	if e.Type == "value_error" {
		return "Value error, " + e.Message
	}
	return e.text()
}

// wireTexts are the messages that only depend on the type
// (seen on a server of 0.22.5).
var wireTexts = map[string]string{
	"missing":               "Field required",
	"extra_forbidden":       "Extra inputs are not permitted",
	"string_type":           "Input should be a valid string",
	"list_type":             "Input should be a valid list",
	"dict_type":             "Input should be a valid dictionary",
	"model_attributes_type": "Input should be a valid dictionary or object to extract fields from",
	"int_type":              "Input should be a valid integer",
	"int_parsing":           "Input should be a valid integer, unable to parse string as an integer",
	"int_parsing_size":      "Unable to parse input string as an integer, exceeded maximum size",
	"int_from_float":        "Input should be a valid integer, got a number with a fractional part",
	"float_type":            "Input should be a valid number",
	"float_parsing":         "Input should be a valid number, unable to parse string as a number",
	"finite_number":         "Input should be a finite number",
	"bool_type":             "Input should be a valid boolean",
	"bool_parsing":          "Input should be a valid boolean, unable to interpret input",
}

// field renders a location without tags: ports.0.local_port.
func field(loc []any) string {
	var parts []string
	for _, part := range loc {
		switch part := part.(type) {
		case string:
			parts = append(parts, part)
		case int:
			parts = append(parts, strconv.Itoa(part))
		}
	}
	return strings.Join(parts, ".")
}
