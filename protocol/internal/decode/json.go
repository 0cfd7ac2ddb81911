package decode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
)

// JSON parses one JSON document; its nodes have no lines.
func JSON(data []byte) (*Node, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	n, err := (&jsonBuilder{data: data, dec: dec}).value(0)
	if err == nil {
		if _, tail := dec.Token(); !errors.Is(tail, io.EOF) {
			err = errors.New("text after the document")
		}
	}
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("unexpected end")
		}
		return nil, Errors{{Type: "json_invalid", Loc: []any{int(dec.InputOffset())}, Message: "JSON decode error: " + err.Error()}}
	}
	return n, nil
}

// jsonBuilder turns the parser's tokens into nodes.
type jsonBuilder struct {
	data []byte
	dec  *json.Decoder
}

func (b *jsonBuilder) value(depth int) (*Node, error) {
	if depth > maxDepth {
		return nil, errors.New("document is too deep")
	}
	before := b.dec.InputOffset()
	token, err := b.dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Delim:
		n, err := b.container(t, depth)
		if err != nil {
			return nil, err
		}
		n.Raw = bytes.TrimLeft(b.data[before:b.dec.InputOffset()], " \t\r\n,:")
		return n, nil
	case bool:
		return &Node{Kind: Bool, Bool: t, Text: fmt.Sprint(t)}, nil
	case json.Number:
		return jsonNumber(t.String()), nil
	case string:
		return &Node{Kind: String, Text: t}, nil
	}
	return &Node{Kind: Null, Text: "null"}, nil
}

func (b *jsonBuilder) container(open json.Delim, depth int) (*Node, error) {
	n := &Node{Kind: List}
	if open == '{' {
		n.Kind = Map
	}
	for b.dec.More() {
		item, err := b.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if open == '[' {
			n.Items = append(n.Items, item)
			continue
		}
		value, err := b.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.set(item, value)
	}
	_, err := b.dec.Token()
	return n, err
}

func jsonNumber(s string) *Node {
	n := &Node{Text: s}
	if !strings.ContainsAny(s, ".eE") {
		if v, ok := new(big.Int).SetString(s, 10); ok {
			return intNode(n, v)
		}
	}
	n.Kind, n.Float = Float, parseFloat(s)
	return n
}
