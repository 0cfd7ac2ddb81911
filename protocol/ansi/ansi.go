// Package ansi removes terminal escape sequences from a stream of bytes: it
// says how the plain log of a job follows from its raw output. Whoever has
// read one of them knows from it the offset in the other.
package ansi

import "bytes"

const (
	bel = 0x07
	can = 0x18
	sub = 0x1a
	esc = 0x1b
	del = 0x7f
)

// state is where in an escape sequence (ECMA-48, as a VT500 parses it) the
// next byte falls.
type state uint8

const (
	ground       state = iota
	escape             // after ESC
	intermediate       // after ESC and one of 0x20-0x2F
	csi                // after ESC [
	osc                // after ESC ], which BEL ends, too
	str                // after ESC P, X, ^ or _
)

// Stripper removes escape sequences from the text given to it piece by piece.
// The result does not depend on where the pieces are cut, and it keeps nothing
// but its state in memory. Everything else, carriage returns and other
// control characters included, stays. The zero value is ready to use.
type Stripper struct{ state state }

// Append appends the plain text of src to dst and returns the extended slice.
// A sequence that src leaves open goes on in the next call.
func (s *Stripper) Append(dst, src []byte) []byte {
	for len(src) > 0 {
		if s.state == ground {
			i := bytes.IndexByte(src, esc)
			if i < 0 {
				return append(dst, src...)
			}
			dst = append(dst, src[:i]...)
			src = src[i+1:]
			s.state = escape
			continue
		}
		var text bool
		s.state, text = next(s.state, src[0])
		if text {
			dst = append(dst, src[0])
		}
		src = src[1:]
	}
	return dst
}

// next gives the state after byte c inside a sequence, and whether c is text
// although it came there.
func next(s state, c byte) (after state, text bool) {
	switch {
	case c == esc:
		return escape, false
	case c == can, c == sub: // both cancel a sequence
		return ground, false
	case c == '\n' && (s == osc || s == str):
		// A string that is never closed must not swallow the rest of the
		// log: at worst it costs the line it stands in.
		return ground, true
	case s == osc && c == bel:
		return ground, false
	case s == osc, s == str:
		return s, false
	case c < 0x20: // a terminal carries out control characters within a sequence
		return s, true
	case c == del:
		return s, false
	case c > del: // not part of any sequence: the text goes on
		return ground, true
	}
	switch s {
	case escape:
		return afterEscape(c), false
	case csi:
		if c >= 0x40 {
			return ground, false
		}
	case intermediate:
		if c >= 0x30 {
			return ground, false
		}
	case ground, osc, str:
	}
	return s, false
}

// afterEscape gives the state after ESC and c, which is one of 0x20-0x7E.
func afterEscape(c byte) state {
	switch c {
	case '[':
		return csi
	case ']':
		return osc
	case 'P', 'X', '^', '_':
		return str
	}
	if c < 0x30 {
		return intermediate
	}
	return ground // a sequence of two bytes, the string terminator ESC \ included
}
