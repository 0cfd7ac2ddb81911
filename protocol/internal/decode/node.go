package decode

import (
	"encoding/json"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Kind is what a node is after its scalar text was resolved.
type Kind int

// Kinds of nodes. Other is a scalar that no field accepts: a date, binary.
const (
	Null Kind = iota
	Bool
	Int
	Float
	String
	Other
	List
	Map
)

// name says what a node is to a person.
func (k Kind) name() string {
	switch k {
	case Null:
		return "null"
	case Bool:
		return "a boolean"
	case Int:
		return "an integer"
	case Float:
		return "a number"
	case String:
		return "a string"
	case List:
		return "a list"
	case Map:
		return "a mapping"
	}
	return "a date or binary value"
}

// Node is a piece of a document with its place.
type Node struct {
	Kind Kind
	// Line and Column count from 1; 0 if unknown.
	Line, Column int
	// Text is the string, or the scalar as the user typed it.
	Text string
	// Bool, Int and Float hold the value of their kind. An integer that does
	// not fit has Int 0 and its value in Float.
	Bool  bool
	Int   int64
	Float float64
	// Big says that an integer does not fit.
	Big   bool
	Items []*Node
	Pairs []Pair
	// Raw is the text of a JSON object or array.
	Raw []byte
	// Warnings are of the whole document; only its root has them.
	Warnings Errors

	digits string         // the decimal text of an integer that does not fit
	index  map[string]int // places in Pairs, by kind and text of the key
}

// Pair is a key with its value; a later pair with an equal key has replaced
// an earlier one.
type Pair struct {
	Key   *Node
	Value *Node
}

// Lookup returns the value of a string key, or nil.
func (n *Node) Lookup(key string) *Node {
	if n == nil {
		return nil
	}
	if i, ok := n.index[indexKey(String, key)]; ok {
		return n.Pairs[i].Value
	}
	return nil
}

// set adds a pair or replaces the one with an equal key; it gives the key that
// it replaced.
func (n *Node) set(key, value *Node) *Node {
	k := indexKey(key.Kind, key.Text)
	if i, ok := n.index[k]; ok {
		old := n.Pairs[i].Key
		n.Pairs[i] = Pair{Key: key, Value: value}
		return old
	}
	if n.index == nil {
		n.index = map[string]int{}
	}
	n.index[k] = len(n.Pairs)
	n.Pairs = append(n.Pairs, Pair{Key: key, Value: value})
	return nil
}

// Without is the mapping without a string key; n stays as it is.
func (n *Node) Without(key string) *Node {
	rest := *n
	rest.Pairs, rest.index = nil, nil
	for _, p := range n.Pairs {
		if p.Key.Kind != String || p.Key.Text != key {
			rest.set(p.Key, p.Value)
		}
	}
	return &rest
}

func indexKey(kind Kind, text string) string {
	return string(rune('0'+kind)) + text
}

// intNode gives n the value of an integer of any size.
func intNode(n *Node, v *big.Int) *Node {
	n.Kind = Int
	if v.IsInt64() {
		n.Int = v.Int64()
		n.Float = float64(n.Int)
		return n
	}
	n.Big, n.digits = true, v.String()
	n.Float, _ = new(big.Float).SetInt(v).Float64()
	return n
}

// number is the decimal text of a numeric node as 0.22.5 turns numbers into
// strings.
func (n *Node) number() string {
	switch {
	case n.Kind == Float:
		return floatText(n.Float)
	case n.Big:
		return n.digits
	}
	return strconv.FormatInt(n.Int, 10)
}

// floatText writes a float like Python: 3.1, 1e+16, 2.0.
func floatText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case f != 0 && (math.Abs(f) < 1e-4 || math.Abs(f) >= 1e16):
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// WithText gives a text node at the same place: a part of what was typed.
func (n *Node) WithText(text string) *Node {
	return &Node{Kind: String, Line: n.Line, Column: n.Column, Text: text}
}

// JSON writes the node as JSON. Dates become texts; numbers that JSON does
// not have become null.
func (n *Node) JSON() (json.RawMessage, error) { return json.Marshal(n.plain()) }

func (n *Node) plain() any {
	switch n.Kind {
	case Null:
		return nil
	case Bool:
		return n.Bool
	case Int:
		return json.Number(n.number())
	case Float:
		if math.IsInf(n.Float, 0) || math.IsNaN(n.Float) {
			return nil
		}
		return n.Float
	case List:
		items := make([]any, len(n.Items))
		for i, item := range n.Items {
			items[i] = item.plain()
		}
		return items
	case Map:
		pairs := make(map[string]any, len(n.Pairs))
		for _, p := range n.Pairs {
			pairs[p.Key.Text] = p.Value.plain()
		}
		return pairs
	}
	return n.Text
}
