package decode

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Enum reads exactly one of the given words.
func Enum(words ...string) Reader[string] { return oneOf("enum", words) }

// Literal is Enum where 0.22.5 calls the error literal_error.
func Literal(words ...string) Reader[string] { return oneOf("literal_error", words) }

func oneOf(typ string, words []string) Reader[string] {
	return func(v Value) string {
		if v.node.Kind == String && slices.Contains(words, v.node.Text) {
			return v.node.Text
		}
		e := v.err(typ, "must be one of "+strings.Join(words, ", "))
		if len(words) == 1 {
			e.Message = "must be " + words[0]
		}
		e.Found, e.Wire = v.found(), "Input should be "+quoted(words, " or ")
		if v.node.Kind == String {
			e.Hint = didYouMean(v.node.Text, words)
		}
		v.doc.errs = append(v.doc.errs, e)
		return ""
	}
}

// Matching reads a text that matches a pattern.
func Matching(pattern *regexp.Regexp) Reader[string] {
	return func(v Value) string {
		s, ok := Try(v, Text)
		if ok && !pattern.MatchString(s) {
			v.FailWire("string_pattern_mismatch", "must match "+pattern.String(), "String should match pattern '"+pattern.String()+"'", "")
		}
		return s
	}
}

// TextOf reads a text of low to high characters.
func TextOf(low, high int) Reader[string] {
	return func(v Value) string {
		s, ok := Try(v, Text)
		if !ok {
			return s
		}
		switch n := utf8.RuneCountInString(s); {
		case n < low:
			v.FailWire("string_too_short", "needs at least "+count(low, "character"), "String should have at least "+count(low, "character"), "")
		case n > high:
			v.FailWire("string_too_long", "must have at most "+count(high, "character"), "String should have at most "+count(high, "character"), "")
		}
		return s
	}
}

// AtMost reads a list of at most high items.
func AtMost[T any](high int, read Reader[[]T]) Reader[[]T] {
	return func(v Value) []T {
		if n := len(v.node.Items); n > high {
			v.FailWire("too_long", "must have at most "+count(high, "item"),
				fmt.Sprintf("List should have at most %s after validation, not %d", count(high, "item"), n), "")
			return nil
		}
		return read(v)
	}
}

// AtLeastOne reads a list that is not empty; null may still be nil.
func AtLeastOne[T any](read Reader[[]T]) Reader[[]T] {
	return func(v Value) []T {
		items, ok := Try(v, read)
		if ok && items != nil && len(items) == 0 {
			v.FailWire("too_short", "must not be empty", "List should have at least 1 item after validation, not 0", "")
		}
		return items
	}
}

func count(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return strconv.Itoa(n) + " " + unit + "s"
}

// Variant starts to read v as one of several kinds of objects that a field
// tells apart. It gives that field's value, which is one of words, and the
// object; "" after an error.
func Variant(v Value, key string, words ...string) (string, *Object) {
	if v.node.Kind != Map {
		v.Fail("model_attributes_type", "must be a mapping with a `"+key+"`", "")
		return "", nil
	}
	node := v.node.Lookup(key)
	if node == nil {
		e := v.err("union_tag_not_found", key+" is required")
		e.Allowed, e.Wire = strings.Join(words, ", "), "Unable to extract tag using discriminator '"+key+"'"
		v.doc.errs = append(v.doc.errs, e)
		return "", nil
	}
	if node.Kind != String || !slices.Contains(words, node.Text) {
		e := v.At(node, key).err("union_tag_invalid", "must be one of "+strings.Join(words, ", "))
		e.Found, e.Loc = v.At(node).found(), v.loc
		if node.Kind == String {
			e.Hint = didYouMean(node.Text, words)
		}
		e.Wire = fmt.Sprintf("Input tag '%s' found using '%s' does not match any of the expected tags: %s", shorten(node.Text), key, quoted(words, ", "))
		v.doc.errs = append(v.doc.errs, e)
		return "", nil
	}
	o := v.At(v.node, Tag(node.Text)).Object()
	o.known = append(o.known, key)
	return node.Text, o
}

// quoted lists words in single quotes; last stands before the last one.
func quoted(words []string, last string) string {
	all := make([]string, len(words))
	for i, word := range words {
		all[i] = "'" + word + "'"
	}
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:len(all)-1], ", ") + last + all[len(all)-1]
}

// shorten cuts a text that is shown to people.
func shorten(s string) string {
	if len(s) > maxFound {
		return strings.ToValidUTF8(s[:maxFound], "") + "..."
	}
	return s
}
