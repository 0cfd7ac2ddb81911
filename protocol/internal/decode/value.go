package decode

import (
	"slices"
	"strconv"
	"strings"
)

// Document collects the errors of one document. Unknown fields are kept apart:
// what is checked between fields does not wait for them.
type Document struct {
	path     string
	errs     Errors
	unknown  Errors
	warnings Errors
}

// Reader turns a value into a T and reports what is wrong with it. After an
// error its result is unspecified.
type Reader[T any] func(Value) T

// Read decodes a whole document. path, if any, is put on the errors.
func Read[T any](path string, root *Node, read Reader[T]) (T, error) {
	result, _, err := ReadWarned(path, root, read)
	return result, err
}

// ReadWarned is Read with what is accepted but was probably not meant.
func ReadWarned[T any](path string, root *Node, read Reader[T]) (T, Errors, error) {
	d := &Document{path: path, warnings: root.Warnings}
	result := read(Value{doc: d, node: root})
	if errs := inOrder(slices.Concat(d.errs, d.unknown)); len(errs) > 0 {
		var zero T
		return zero, nil, errs
	}
	return result, inOrder(d.warnings), nil
}

// inOrder sorts by place. Of several errors that say the same of one place
// in a file the first is kept: a shorthand can be wrong in two fields at once.
func inOrder(errs Errors) Errors {
	slices.SortStableFunc(errs, func(a, b Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return slices.CompactFunc(errs, func(a, b Error) bool {
		return a.Line > 0 && a.Line == b.Line && a.Column == b.Column && a.text() == b.text()
	})
}

// Instead replaces what read reports by one error for the whole value.
func Instead[T any](read Reader[T], typ, message, allowed string) Reader[T] {
	return func(v Value) T {
		before := len(v.doc.errs)
		result := read(v)
		if len(v.doc.errs) > before {
			v.doc.errs = v.doc.errs[:before]
			v.Fail(typ, message, allowed)
		}
		return result
	}
}

// Value is a node at a place of a document.
type Value struct {
	doc    *Document
	node   *Node
	loc    []any
	wire   []any // where REST clients are told to look, if not at loc
	secret bool
}

// Node gives the node itself.
func (v Value) Node() *Node { return v.node }

// Kind gives the kind of the node.
func (v Value) Kind() Kind { return v.node.Kind }

// Secret makes errors at v and below hide what was found.
func (v Value) Secret() Value {
	v.secret = true
	return v
}

// For makes errors at v name outer to REST clients, as 0.22.5 does for rules
// about the whole of outer; people still see v.
func (v Value) For(outer Value) Value {
	v.wire = outer.loc
	if v.wire == nil {
		v.wire = []any{}
	}
	return v
}

// At gives the same document at another node and place; REST bodies use
// Tags in places.
func (v Value) At(node *Node, parts ...any) Value {
	v.node, v.wire = node, nil
	v.loc = append(slices.Clip(v.loc), parts...)
	return v
}

// Failed says whether the document has an error so far.
func (v Value) Failed() bool { return len(v.doc.errs) > 0 }

// Try runs read and says whether it reported no error.
func Try[T any](v Value, read Reader[T]) (T, bool) {
	before := len(v.doc.errs)
	result := read(v)
	return result, len(v.doc.errs) == before
}

// Fail reports an error of the given 0.22.5 type at v, with what was found and
// the accepted forms, if that helps.
func (v Value) Fail(typ, message, allowed string) {
	e := v.err(typ, message)
	e.Found, e.Allowed = v.found(), allowed
	v.doc.errs = append(v.doc.errs, e)
}

// FailHint is Fail with an advice in the place of the accepted forms.
func (v Value) FailHint(typ, message, hint string) {
	e := v.err(typ, message)
	e.Found, e.Hint = v.found(), hint
	v.doc.errs = append(v.doc.errs, e)
}

// FailBare reports an error whose message says it all; hint may be empty.
func (v Value) FailBare(typ, message, hint string) {
	e := v.err(typ, message)
	e.Hint = hint
	v.doc.errs = append(v.doc.errs, e)
}

// FailWire is Fail with the words of 0.22.5 for REST clients.
func (v Value) FailWire(typ, message, wire, allowed string) {
	e := v.err(typ, message)
	e.Found, e.Allowed, e.Wire = v.found(), allowed, wire
	v.doc.errs = append(v.doc.errs, e)
}

// FailValue is Fail for a value that breaks a rule; said is the text of
// 0.22.5 for REST clients.
func (v Value) FailValue(message, said, allowed string) {
	v.FailWire("value_error", message, "Value error, "+said, allowed)
}

// Warn reports something that is accepted but was probably not meant.
func (v Value) Warn(message, hint string) {
	e := v.err("warning", message)
	e.Hint = hint
	v.doc.warnings = append(v.doc.warnings, e)
}

func (v Value) err(typ, message string) Error {
	return Error{
		Path: v.doc.path, Line: v.node.Line, Column: v.node.Column,
		Field: field(v.loc), Message: message, Type: typ, Loc: v.wireLoc(),
	}
}

func (v Value) wireLoc() []any {
	if v.wire != nil {
		return v.wire
	}
	return v.loc
}

// maxFound is how many bytes of a bad value are shown.
const maxFound = 60

func (v Value) found() string {
	n := v.node
	switch {
	case n.Kind == Null || n.Kind == List || n.Kind == Map || v.secret:
		return n.Kind.name()
	case len(n.Text) > maxFound:
		return "a long text"
	case n.Kind == String:
		return strconv.Quote(n.Text)
	}
	return n.Text
}

// Object is a mapping whose keys are fields.
type Object struct {
	Value
	known []string
	ok    bool
}

// Object starts to read v as a mapping. If it is none, that is reported and
// all fields read as absent.
func (v Value) Object() *Object {
	if v.node.Kind != Map {
		v.Fail("model_attributes_type", "must be a mapping", "")
		return &Object{Value: v}
	}
	return &Object{Value: v, ok: true}
}

// Valid says that the value is a mapping; that it is not was reported.
func (o *Object) Valid() bool { return o.ok }

// Has says whether a field is there, and makes it known.
func (o *Object) Has(key string) bool {
	o.known = append(o.known, key)
	return o.ok && o.node.Lookup(key) != nil
}

// Child gives the value of a field that is there.
func (o *Object) Child(key string) Value {
	return o.At(o.node.Lookup(key), key)
}

// Field reads an optional field; absent gives the zero value.
func Field[T any](o *Object, key string, read Reader[T]) T {
	var zero T
	return FieldOr(o, key, zero, read)
}

// FieldOr reads an optional field with a default.
func FieldOr[T any](o *Object, key string, def T, read Reader[T]) T {
	if !o.Has(key) {
		return def
	}
	return read(o.Child(key))
}

// Required reads a field that has to be there.
func Required[T any](o *Object, key string, read Reader[T]) T {
	if !o.Has(key) {
		var zero T
		if o.ok {
			o.At(o.node, key).FailBare("missing", "required", "")
		}
		return zero
	}
	return read(o.Child(key))
}

// FailField reports an error of the whole object that a field is to blame
// for: people see the field, REST clients the object.
func (o *Object) FailField(key, typ, message, hint string) {
	at := o.Value
	if o.node.Lookup(key) != nil {
		at = o.Child(key).For(o.Value)
	}
	at.FailBare(typ, message, hint)
}

// Done reports the fields that nobody asked for.
func (o *Object) Done() {
	if !o.ok {
		return
	}
	for _, p := range o.node.Pairs {
		name := p.Key.Text
		if p.Key.Kind == String && slices.Contains(o.known, name) {
			continue
		}
		e := o.At(p.Key, name).err("extra_forbidden", "unknown field")
		e.Hint = didYouMean(name, o.known)
		o.doc.unknown = append(o.doc.unknown, e)
	}
}

// Optional reads null as nil.
func Optional[T any](read Reader[T]) Reader[*T] {
	return func(v Value) *T {
		if v.node.Kind == Null {
			return nil
		}
		result := read(v)
		return &result
	}
}

// OptionalList reads null as nil.
func OptionalList[T any](read Reader[T]) Reader[[]T] {
	return func(v Value) []T {
		if v.node.Kind == Null {
			return nil
		}
		return ListOf(read)(v)
	}
}

// ListOf reads a list; a scalar is never wrapped. It is never nil.
func ListOf[T any](read Reader[T]) Reader[[]T] {
	return func(v Value) []T {
		if v.node.Kind != List {
			v.Fail("list_type", "must be a list", "")
			return nil
		}
		result := make([]T, 0, len(v.node.Items))
		for i, item := range v.node.Items {
			result = append(result, read(v.At(item, i)))
		}
		return result
	}
}

// MapOf reads a mapping from texts. Keys may be strings or numbers.
func MapOf[T any](read Reader[T]) Reader[map[string]T] {
	return func(v Value) map[string]T {
		if v.node.Kind != Map {
			v.Fail("dict_type", "must be a mapping", "")
			return nil
		}
		result := make(map[string]T, len(v.node.Pairs))
		for _, p := range v.node.Pairs {
			key, ok := Try(v.At(p.Key, p.Key.Text), Text)
			if ok {
				result[key] = read(v.At(p.Value, key))
			}
		}
		return result
	}
}

// didYouMean is the hint for a wrong name; empty if no known one is near.
func didYouMean(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return "did you mean `" + near + "`?"
	}
	return ""
}

// nearest finds the known name that a wrong one was probably meant to be.
func nearest(name string, known []string) string {
	if len(name) > maxFound {
		return "" // no typo of a field, and slow to compare
	}
	best, bestDistance := "", 1+max(1, len(name)/3)
	for _, k := range known {
		if d := distance(strings.ToLower(name), k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbours between a and b.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range len(b) {
		d[0][j+1] = j + 1
	}
	for i := range len(a) {
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			d[i+1][j+1] = min(d[i][j+1]+1, d[i+1][j]+1, d[i][j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d[i+1][j+1] = min(d[i+1][j+1], d[i-1][j-1]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

// Silent reads a value if it is fine, and reports nothing if it is not.
func Silent[T any](v Value, read Reader[T]) (T, bool) {
	before := len(v.doc.errs)
	result := read(v)
	ok := len(v.doc.errs) == before
	v.doc.errs = v.doc.errs[:before]
	return result, ok
}

// Both reads with first and, if that is fine, with second too.
func Both[T any](first, second Reader[T]) Reader[T] {
	return func(v Value) T {
		if result, ok := Try(v, first); !ok {
			return result
		}
		return second(v)
	}
}
