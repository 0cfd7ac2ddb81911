package backends

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"dstack/protocol/config"
)

// YAML writes a configuration with its credentials as it may stand in
// config.yml. What is not set is left out.
func (Clouds) YAML(b config.Backend) (string, error) {
	data, err := json.Marshal(b)
	if err != nil {
		return "", fmt.Errorf("write backend: %w", err)
	}
	var out strings.Builder
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := writeValue(&out, dec, ""); err != nil {
		return "", fmt.Errorf("write backend: %w", err)
	}
	return strings.TrimPrefix(out.String(), "\n"), nil
}

// writeValue writes the next value of dec behind a key or a dash.
func writeValue(out *strings.Builder, dec *json.Decoder, indent string) error {
	token, err := dec.Token()
	if err != nil {
		return fmt.Errorf("read value: %w", err)
	}
	switch v := token.(type) {
	case json.Delim:
		if !dec.More() {
			out.WriteString(map[json.Delim]string{'{': " {}\n", '[': " []\n"}[v])
			_, err := dec.Token()
			return err //nolint:wrapcheck // our own JSON
		}
		out.WriteByte('\n')
		if v == '[' {
			return writeList(out, dec, indent)
		}
		return writeMap(out, dec, indent)
	case string:
		out.WriteString(" " + scalar(v) + "\n")
	default:
		fmt.Fprintf(out, " %v\n", v)
	}
	return nil
}

func writeMap(out *strings.Builder, dec *json.Decoder, indent string) error {
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return fmt.Errorf("read key: %w", err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return fmt.Errorf("read value: %w", err)
		}
		if string(value) == "null" {
			continue
		}
		fmt.Fprintf(out, "%s%s:", indent, scalar(fmt.Sprint(key)))
		inner := indent + "  "
		if value[0] == '[' {
			inner = indent // a list stands below its key
		}
		if err := writeValue(out, numbers(value), inner); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err //nolint:wrapcheck // our own JSON
}

func writeList(out *strings.Builder, dec *json.Decoder, indent string) error {
	for dec.More() {
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return fmt.Errorf("read item: %w", err)
		}
		var item strings.Builder
		if err := writeValue(&item, numbers(value), indent+"  "); err != nil {
			return err
		}
		// The first line of a mapping stands behind the dash.
		text := strings.TrimPrefix(item.String(), "\n"+indent+" ")
		out.WriteString(indent + "-" + text)
	}
	_, err := dec.Token()
	return err //nolint:wrapcheck // our own JSON
}

func numbers(value json.RawMessage) *json.Decoder {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	return dec
}

var (
	plainText = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./+=@-]*(?: [A-Za-z0-9_./+=@-]+)*$`)
	yamlWord  = regexp.MustCompile(`^(?i:yes|no|y|n|true|false|on|off|null)$`)
)

// scalar writes a text so that YAML reads the same text.
func scalar(s string) string {
	switch {
	case plainText.MatchString(s) && !yamlWord.MatchString(s):
		return s
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }):
		// A JSON string is a YAML string, too.
		quoted, err := json.Marshal(s)
		if err != nil {
			return "''" // a string is always written
		}
		return string(quoted)
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}
