// Package words cuts command lines into words, and makes words for them.
package words

import (
	"fmt"
	"strings"
)

// Split cuts a line into words as a shell does, without expanding anything.
func Split(line string) ([]string, error) {
	var list []string
	var word strings.Builder
	inWord := false
	var quote rune
	escaped := false
	for _, r := range line {
		switch {
		case escaped:
			if quote == '"' && !strings.ContainsRune(`"\$`+"`", r) {
				word.WriteRune('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t' || r == '\n' || r == '\r':
			if inWord {
				list = append(list, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	switch {
	case quote != 0:
		return nil, fmt.Errorf("%q: a quote is not closed", line)
	case escaped:
		return nil, fmt.Errorf("%q: nothing follows the last backslash", line)
	}
	if inWord {
		list = append(list, word.String())
	}
	return list, nil
}

// Quote makes one word of s for a POSIX shell: Split gives it back as it is.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
