package sshconfig

import (
	"bytes"
	"path/filepath"
	"strings"
)

var byteOrderMark = []byte("\xef\xbb\xbf")

// addInclude puts line at the top of a user's configuration, unless has finds
// an Include that does the same. What was there follows unchanged.
func addInclude(file []byte, line string, has func(words []string) bool) []byte {
	if included(file, has) {
		return file
	}
	rest, marked := bytes.CutPrefix(file, byteOrderMark)
	var out []byte
	if marked {
		out = append(out, byteOrderMark...)
	}
	out = append(out, line...)
	if bytes.HasSuffix(firstLine(rest), []byte("\r\n")) {
		out = append(out, '\r')
	}
	out = append(out, '\n')
	return append(out, rest...)
}

// included says whether an Include for all hosts is accepted by has: one below
// Host or Match counts for those hosts only.
func included(file []byte, has func(words []string) bool) bool {
	file = bytes.TrimPrefix(file, byteOrderMark)
	for len(file) > 0 {
		line := firstLine(file)
		file = file[len(line):]
		words := splitWords(string(line))
		switch {
		case len(words) == 0:
		case isSection(words[0]):
			return false
		case strings.EqualFold(words[0], "Include") && has(words[1:]):
			return true
		}
	}
	return false
}

// includes says whether one of the patterns of an Include names the path.
// Patterns are relative to ~/.ssh.
func (s pathStyle) includes(patterns []string, path string) bool {
	for _, pattern := range patterns {
		pattern = filepath.FromSlash(pattern)
		below, tilde := strings.CutPrefix(pattern, "~"+string(filepath.Separator))
		switch {
		case tilde && !s.tilde:
			continue
		case tilde:
			pattern = filepath.Join(s.home, below)
		case !filepath.IsAbs(pattern):
			pattern = filepath.Join(s.home, ".ssh", pattern)
		}
		if same, err := filepath.Match(filepath.Clean(pattern), path); same && err == nil {
			return true
		}
	}
	return false
}
