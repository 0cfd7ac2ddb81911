package decode

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits on what a document may unfold to, against alias bombs.
const (
	maxNodes = 100_000
	maxDepth = 100
)

// YAML parses one YAML 1.1 document. An empty one is null. path is used in
// errors.
func YAML(path string, data []byte) (*Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return &Node{Kind: Null, Line: 1, Column: 1}, nil
		}
		return nil, syntaxError(path, data, err)
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, Errors{{Path: path, Line: second.Line, Column: second.Column, Type: "yaml_invalid",
			Message: "more than one YAML document, put each in a file of its own"}}
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(path, data, err)
	}
	b := yamlBuilder{path: path, open: map[*yaml.Node]bool{}}
	root, err := b.build(&doc, 0)
	if err != nil {
		return nil, err
	}
	root.Warnings = b.warnings
	return root, nil
}

var yamlErrorLine = regexp.MustCompile(`^yaml: line (\d+): `)

// syntaxError puts a place on an error of the YAML parser. The parser counts
// lines from 0 in some errors, from 1 in others, and gives none for anchors.
func syntaxError(path string, data []byte, err error) error {
	text := err.Error()
	line := 1
	if m := yamlErrorLine.FindStringSubmatch(text); m != nil {
		n, convErr := strconv.Atoi(m[1])
		text = strings.TrimPrefix(text, m[0])
		if convErr == nil {
			line = n
		}
		if strings.HasPrefix(text, "did not find expected") {
			line++
		}
	}
	lines := bytes.SplitAfter(bytes.TrimRight(data, "\n"), []byte("\n"))
	if first := firstBadLine(lines); strings.Contains(text, "unexpected end of stream") {
		line = first // what is not closed, not where the parser gave up
	} else {
		line = max(line, first)
	}
	line = max(1, min(line, len(lines)))
	return Errors{{Path: path, Line: line, Column: 1, Type: "yaml_invalid",
		Message: "YAML syntax error: " + strings.TrimPrefix(text, "yaml: ")}}
}

// firstBadLine is the line up to which a document was still valid, plus one:
// the parser often names the start of the block around a fault. 0 means that
// a long document was not searched.
func firstBadLine(lines [][]byte) int {
	const most = 500
	if len(lines) > most {
		return 0
	}
	for n := len(lines) - 1; n > 0; n-- {
		if isYAML(bytes.Join(lines[:n], nil)) {
			return n + 1
		}
	}
	return 1
}

func isYAML(data []byte) bool {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// yamlBuilder turns the parser's nodes into ours: it resolves scalars,
// follows aliases and merges mappings.
type yamlBuilder struct {
	path  string
	count int
	open  map[*yaml.Node]bool // nodes being built, to find cycles

	warnings Errors
}

func (b *yamlBuilder) fail(n *yaml.Node, format string, args ...any) error {
	return Errors{{Path: b.path, Line: n.Line, Column: n.Column, Type: "yaml_invalid", Message: fmt.Sprintf(format, args...)}}
}

func (b *yamlBuilder) build(n *yaml.Node, depth int) (*Node, error) {
	b.count++
	if b.count > maxNodes || depth > maxDepth {
		return nil, b.fail(n, "document is too large or too deep")
	}
	if b.open[n] {
		return nil, b.fail(n, "alias contains itself")
	}
	b.open[n] = true
	defer delete(b.open, n)
	switch n.Kind {
	case yaml.DocumentNode:
		return b.build(n.Content[0], depth)
	case yaml.AliasNode:
		return b.build(n.Alias, depth+1)
	case yaml.ScalarNode:
		return b.scalar(n)
	case yaml.SequenceNode:
		return b.list(n, depth)
	case yaml.MappingNode:
		return b.mapping(n, depth)
	}
	return nil, b.fail(n, "YAML syntax not supported")
}

func (b *yamlBuilder) scalar(n *yaml.Node) (*Node, error) {
	node := &Node{Kind: String, Line: n.Line, Column: n.Column, Text: n.Value}
	plain := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	if n.Style&yaml.TaggedStyle != 0 {
		return b.tagged(n, node)
	}
	if !plain {
		return node, nil
	}
	if n.Value == "=" {
		return nil, b.fail(n, "YAML value = is not supported, put it in quotes")
	}
	return resolvePlain(node), nil
}

// tagged resolves a scalar with one of YAML's own tags.
func (b *yamlBuilder) tagged(n *yaml.Node, node *Node) (*Node, error) {
	want := Other
	switch n.ShortTag() {
	case "!!str":
		return node, nil
	case "!!int":
		want = Int
	case "!!float":
		want = Float
	case "!!bool":
		want = Bool
	case "!!null":
		want = Null
	}
	if want != Other && resolvePlain(node).Kind == want {
		return node, nil
	}
	return nil, b.fail(n, "YAML tag %s is not supported here", n.Tag)
}

func (b *yamlBuilder) list(n *yaml.Node, depth int) (*Node, error) {
	if n.Style&yaml.TaggedStyle != 0 && n.ShortTag() != "!!seq" {
		return nil, b.fail(n, "YAML tag %s is not supported here", n.Tag)
	}
	node := &Node{Kind: List, Line: n.Line, Column: n.Column}
	for _, c := range n.Content {
		item, err := b.build(c, depth+1)
		if err != nil {
			return nil, err
		}
		node.Items = append(node.Items, item)
	}
	return node, nil
}

func (b *yamlBuilder) mapping(n *yaml.Node, depth int) (*Node, error) {
	if n.Style&yaml.TaggedStyle != 0 && n.ShortTag() != "!!map" {
		return nil, b.fail(n, "YAML tag %s is not supported here", n.Tag)
	}
	node := &Node{Kind: Map, Line: n.Line, Column: n.Column}
	if err := b.merge(n, node, depth); err != nil {
		return nil, err
	}
	own := map[*Node]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if isMerge(n.Content[i]) {
			continue
		}
		key, err := b.build(n.Content[i], depth+1)
		if err != nil {
			return nil, err
		}
		if key.Kind == List || key.Kind == Map {
			return nil, b.fail(n.Content[i], "a key must be a scalar, found %s", key.Kind.name())
		}
		value, err := b.build(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		if old := node.set(key, value); own[old] {
			b.warnings = append(b.warnings, Error{Path: b.path, Line: key.Line, Column: key.Column, Field: key.Text, Type: "warning",
				Message: fmt.Sprintf("given twice, the value of line %d is ignored", old.Line), Loc: []any{key.Text}})
		}
		own[key] = true
	}
	return node, nil
}

func isMerge(key *yaml.Node) bool {
	return key.Kind == yaml.ScalarNode && key.Value == "<<" && key.Style == 0
}

// merge copies the pairs of all `<<` values; the mapping's own keys replace
// them later, and of several merged mappings the first one wins.
func (b *yamlBuilder) merge(n *yaml.Node, node *Node, depth int) error {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if !isMerge(n.Content[i]) {
			continue
		}
		from, err := b.build(n.Content[i+1], depth+1)
		if err != nil {
			return err
		}
		sources := []*Node{from}
		if from.Kind == List {
			sources = from.Items
		}
		for j := len(sources) - 1; j >= 0; j-- {
			if sources[j].Kind != Map {
				return b.fail(n.Content[i+1], "<< needs a mapping or a list of mappings, found %s", sources[j].Kind.name())
			}
			for _, p := range sources[j].Pairs {
				node.set(p.Key, p.Value)
			}
		}
	}
	return nil
}
