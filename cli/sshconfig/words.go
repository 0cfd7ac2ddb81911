package sshconfig

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// isSection says whether a keyword begins a section of a configuration.
func isSection(keyword string) bool {
	return strings.EqualFold(keyword, "Host") || strings.EqualFold(keyword, "Match")
}

// splitWords splits a line as ssh does: the keyword may be followed by one
// `=`, words may be quoted. Comments have no words.
func splitWords(line string) []string {
	line = strings.Trim(line, " \t\r\n\f")
	if line == "" || line[0] == '#' {
		return nil
	}
	end := strings.IndexAny(line, " \t=\"")
	if end < 0 {
		return []string{line}
	}
	words := []string{line[:end]}
	rest := strings.TrimLeft(line[end:], " \t")
	if after, ok := strings.CutPrefix(rest, "="); ok {
		rest = strings.TrimLeft(after, " \t")
	}
	for rest != "" && rest[0] != '#' {
		var word string
		word, rest = nextWord(rest)
		words = append(words, word)
		rest = strings.TrimLeft(rest, " \t")
	}
	return words
}

// nextWord takes a word off a text that begins with one.
func nextWord(text string) (word, rest string) {
	var b strings.Builder
	var open byte
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text) && (strings.IndexByte(`"'\`, text[i+1]) >= 0 || open == 0 && text[i+1] == ' '):
			i++
			b.WriteByte(text[i])
		case open == 0 && (c == ' ' || c == '\t'):
			return b.String(), text[i:]
		case open == 0 && (c == '"' || c == '\''):
			open = c
		case open != 0 && c == open:
			open = 0
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), ""
}

// quote writes one word so that ssh reads it as it is.
func quote(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\"'\\#=") {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}

// errPath is about a path that ssh's configuration has no way to write.
var errPath = errors.New("ssh's configuration can't hold a path with a line break or ${")

// pathStyle writes paths for ssh.
type pathStyle struct {
	// home is the folder of the user's files.
	home string
	// tilde says that ssh's ~ is home, too: that is not so where HOME was set
	// to another folder.
	tilde bool
}

// plain is a path with slashes, and ~ where it can be: every ssh for Windows
// understands these.
func (s pathStyle) plain(path string) (string, error) {
	if strings.ContainsAny(path, "\r\n") || strings.Contains(path, "${") {
		return "", fmt.Errorf("write %q: %w", path, errPath)
	}
	if below, err := filepath.Rel(s.home, path); s.tilde && err == nil && filepath.IsLocal(below) {
		return "~/" + filepath.ToSlash(below), nil
	}
	return filepath.ToSlash(path), nil
}

// identity is a path as the value of IdentityFile, in which % begins a token.
func (s pathStyle) identity(path string) (string, error) {
	text, err := s.plain(path)
	return quote(strings.ReplaceAll(text, "%", "%%")), err
}

// include is a path as the value of Include, which is a pattern of files.
func (s pathStyle) include(path string) (string, error) {
	text, err := s.plain(path)
	return quote(strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(text)), err
}
