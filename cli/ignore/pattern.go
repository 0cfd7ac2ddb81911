// Package ignore decides which files are left out when a folder is packed:
// by the .dstackignore, .ignore and .gitignore files in it, below it and
// above it, and by Git's own lists of excludes. Patterns are those of
// gitignore(5).
package ignore

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// pattern is one line of an ignore file.
type pattern struct {
	re      *regexp.Regexp
	negated bool
	dirOnly bool
}

// rules are the patterns of one file, in order; the last that matches counts.
type rules []pattern

// verdict is what rules say of a path.
type verdict int

const (
	silent verdict = iota
	ignored
	kept
)

func (r rules) match(rel string, isDir bool) verdict {
	for i := len(r) - 1; i >= 0; i-- {
		p := r[i]
		if p.dirOnly && !isDir || !p.re.MatchString(rel) {
			continue
		}
		if p.negated {
			return kept
		}
		return ignored
	}
	return silent
}

// parse reads an ignore file. Lines that can match nothing are dropped.
func parse(text string) rules {
	var out rules
	text = strings.TrimPrefix(text, "\ufeff")
	for line := range strings.SplitSeq(text, "\n") {
		if p, ok := parseLine(strings.TrimSuffix(line, "\r")); ok {
			out = append(out, p)
		}
	}
	return out
}

func parseLine(line string) (pattern, bool) {
	var p pattern
	if strings.HasPrefix(line, "#") {
		return p, false
	}
	line = trimSpaces(line)
	if rest, ok := strings.CutPrefix(line, "!"); ok {
		p.negated, line = true, rest
	}
	if strings.HasSuffix(line, "/") && !strings.HasSuffix(line, `\/`) {
		p.dirOnly, line = true, strings.TrimSuffix(line, "/")
	}
	if line == "" {
		return p, false
	}
	anchored := strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	if !anchored {
		line = "**/" + line
	}
	text, ok := translate(line)
	if !ok {
		return p, false
	}
	re, err := regexp.Compile(`(?s)^` + text + `$`)
	p.re = re
	return p, err == nil
}

// trimSpaces drops the spaces at the end, but one that has a backslash.
func trimSpaces(line string) string {
	end := len(line)
	for end > 0 && line[end-1] == ' ' {
		end--
	}
	slashes := 0
	for i := end - 1; i >= 0 && line[i] == '\\'; i-- {
		slashes++
	}
	if slashes%2 == 1 && end < len(line) {
		end++
	}
	return line[:end]
}

// translate makes a regular expression of a pattern; false says that it can
// match nothing.
func translate(p string) (string, bool) {
	var b strings.Builder
	if rest, ok := strings.CutPrefix(p, "**/"); ok {
		b.WriteString("(?:.*/)?")
		p = rest
	}
	for p != "" {
		switch {
		case p == "/**":
			b.WriteString("/.+")
			return b.String(), true
		case strings.HasPrefix(p, "/**/"):
			b.WriteString("/(?:.*/)?")
			p = p[len("/**/"):]
			for strings.HasPrefix(p, "**/") {
				p = p[len("**/"):]
			}
		case p[0] == '*':
			b.WriteString("[^/]*")
			p = strings.TrimLeft(p, "*")
		case p[0] == '?':
			b.WriteString("[^/]")
			p = p[1:]
		case p[0] == '[':
			class, rest, ok := translateClass(p[1:])
			if !ok {
				return "", false
			}
			b.WriteString(class)
			p = rest
		case p[0] == '\\' && len(p) == 1:
			return "", false
		default:
			if p[0] == '\\' {
				p = p[1:]
			}
			n := len(string([]rune(p)[0]))
			if n > len(p) { // a byte that is no text
				n = 1
			}
			b.WriteString(regexp.QuoteMeta(p[:n]))
			p = p[n:]
		}
	}
	return b.String(), true
}

// translateClass translates what follows "[" and gives the rest of the
// pattern. A class never matches a slash.
func translateClass(p string) (class, rest string, ok bool) {
	negated := strings.HasPrefix(p, "!") || strings.HasPrefix(p, "^")
	if negated {
		p = p[1:]
	}
	var b strings.Builder
	for first := true; ; first = false {
		switch {
		case p == "":
			return "", "", false
		case p[0] == ']' && !first:
			if negated {
				return "[^/" + b.String() + "]", p[1:], true
			}
			return "[" + b.String() + "]", p[1:], true
		case strings.HasPrefix(p, "[:"):
			name, after, found := strings.Cut(p[2:], ":]")
			if !found {
				return "", "", false
			}
			b.WriteString("[:" + name + ":]")
			p = after
			continue
		}
		low, after, found := classMember(p)
		if !found {
			return "", "", false
		}
		p = after
		if len(p) > 1 && p[0] == '-' && p[1] != ']' {
			high, after, found := classMember(p[1:])
			if !found {
				return "", "", false
			}
			if low <= high {
				b.WriteString(quoteInClass(low) + "-" + quoteInClass(high))
			}
			p = after
			continue
		}
		b.WriteString(quoteInClass(low))
	}
}

// classMember takes one character, maybe after a backslash.
func classMember(p string) (r rune, rest string, ok bool) {
	p = strings.TrimPrefix(p, `\`)
	r, size := utf8.DecodeRuneInString(p)
	return r, p[size:], size > 0
}

func quoteInClass(r rune) string {
	if strings.ContainsRune(`\]^-[:&~`, r) {
		return `\` + string(r)
	}
	return string(r)
}
