package term

import (
	"strings"
	"unicode/utf8"
)

// Style is a set of SGR parameters ("1;38;5;78"); the empty style is plain.
type Style string

// Styles of the command line (xterm-256, the colours of 0.22.5).
const (
	Plain     Style = ""
	Bold      Style = "1"
	Secondary Style = "38;5;246"
	Success   Style = "32"
	Warning   Style = "33"
	Error     Style = "31"
	Code      Style = "1;38;5;78"
	Heading   Style = "1;38;5;249"
	Blue      Style = "38;5;39"
	Green     Style = "38;5;78"
	Red       Style = "38;5;204"
	Gold      Style = "38;5;220"
)

// With adds the parameters of another style.
func (s Style) With(other Style) Style {
	switch {
	case s == "":
		return other
	case other == "":
		return s
	}
	return s + ";" + other
}

// Paint puts text into a style where the console shows colours.
func (c *Console) Paint(s Style, text string) string {
	if !c.Color || s == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// clip cuts a line with escape sequences to width visible characters.
func clip(line string, width int) string {
	if width <= 0 || visibleLen(line) <= width {
		return line
	}
	var b strings.Builder
	painted := false
	for n := 0; len(line) > 0; {
		if seq := escapeLen(line); seq > 0 {
			b.WriteString(line[:seq])
			line, painted = line[seq:], true
			continue
		}
		if n == width-1 {
			break
		}
		_, size := utf8.DecodeRuneInString(line)
		b.WriteString(line[:size])
		line = line[size:]
		n++
	}
	b.WriteString("…")
	if painted {
		b.WriteString("\x1b[0m")
	}
	return b.String()
}

// visibleLen counts the characters of a line that take room on a terminal.
func visibleLen(line string) int {
	n := 0
	for len(line) > 0 {
		if seq := escapeLen(line); seq > 0 {
			line = line[seq:]
			continue
		}
		_, size := utf8.DecodeRuneInString(line)
		line = line[size:]
		n++
	}
	return n
}

// escapeLen is the length of the SGR sequence that s starts with, or 0.
func escapeLen(s string) int {
	if !strings.HasPrefix(s, "\x1b[") {
		return 0
	}
	end := strings.IndexByte(s, 'm')
	return end + 1
}
