// Package logurl rewrites the URLs of a job's own servers in its output, so
// that they lead to the forwarded ports on the user's machine (spec: cli.md
// 12.5).
package logurl

import (
	"bytes"
	"net/url"
	"strconv"
)

// Target is where a port of the job is reached.
type Target struct {
	// Base replaces "http://HOST:PORT"; it has no slash at its end.
	Base string
	// Query is added to the query of each URL.
	Query map[string]string
}

// Rewriter rewrites a stream of text given piece by piece. The result does
// not depend on where the pieces are cut: the beginning of what may become a
// URL is held back until its end came, or until Flush.
type Rewriter struct {
	hosts [][]byte
	ports map[int]Target
	held  []byte
}

// New makes a rewriter for the targets of ports. Besides the names of the
// job's localhost, the given addresses are taken for the job's.
func New(ports map[int]Target, addresses ...string) *Rewriter {
	r := &Rewriter{ports: ports}
	for _, host := range append([]string{"localhost", "127.0.0.1", "0.0.0.0"}, addresses...) {
		if host != "" {
			r.hosts = append(r.hosts, []byte(host+":"))
		}
	}
	return r
}

// scheme is how a URL begins that is rewritten.
const scheme = "http://"

// maxHeld bounds what is held back of a URL, in bytes.
const maxHeld = 4 << 10

// Append appends the text of src, with its URLs rewritten, to dst.
func (r *Rewriter) Append(dst, src []byte) []byte { return r.scan(dst, append(r.held, src...), false) }

// Flush appends what is held back.
func (r *Rewriter) Flush(dst []byte) []byte { return r.scan(dst, r.held, true) }

// Held says whether something is held back.
func (r *Rewriter) Held() bool { return len(r.held) > 0 }

func (r *Rewriter) scan(dst, text []byte, last bool) []byte {
	r.held = nil
	for {
		i := bytes.Index(text, []byte(scheme))
		if i < 0 {
			break
		}
		dst = append(dst, text[:i]...)
		text = text[i:]
		replaced, size, complete := r.url(text, last || len(text) > maxHeld)
		if !complete {
			r.held = bytes.Clone(text)
			return dst
		}
		dst = append(dst, replaced...)
		text = text[size:]
	}
	keep := 0
	if !last {
		keep = overlap(text, scheme)
	}
	r.held = bytes.Clone(text[len(text)-keep:])
	return append(dst, text[:len(text)-keep]...)
}

// overlap is the length of the longest end of text that begins word.
func overlap(text []byte, word string) int {
	for n := min(len(text), len(word)-1); n > 0; n-- {
		if bytes.HasSuffix(text, []byte(word[:n])) {
			return n
		}
	}
	return 0
}

// url gives the replacement for the beginning of text, of the given size.
// It is not complete if more text could change it, unless that was the last.
func (r *Rewriter) url(text []byte, last bool) (replaced []byte, size int, complete bool) {
	rest := text[len(scheme):]
	host, open := r.host(rest)
	if host == 0 {
		return text[:len(scheme)], len(scheme), last || !open
	}
	// Programs that colour a port do so between the colon and the number.
	colours, open := colourCodes(rest[host:])
	port, digits := number(rest[host+colours:])
	size = len(scheme) + host + colours + digits
	if !last && (open || size == len(text)) {
		return nil, 0, false
	}
	target, known := r.ports[port]
	if !known {
		return text[:size], size, true
	}
	replaced = append([]byte(target.Base), rest[host:host+colours]...)
	if len(target.Query) == 0 {
		return replaced, size, true
	}
	end := bytes.IndexAny(text[size:], " \t\r\n\"'<>`\x1b")
	if end < 0 && !last {
		return nil, 0, false
	}
	if end < 0 {
		end = len(text) - size
	}
	return append(replaced, merged(string(text[size:size+end]), target.Query)...), size + end, true
}

// host is the length of the job's name and the colon with which text begins;
// open says that text may be too short to tell.
func (r *Rewriter) host(text []byte) (size int, open bool) {
	for _, host := range r.hosts {
		if bytes.HasPrefix(text, host) {
			return len(host), false
		}
		open = open || bytes.HasPrefix(host, text)
	}
	return 0, open
}

// colourCodes is the length of the SGR sequences with which text begins;
// open says that text ends within one.
func colourCodes(text []byte) (size int, open bool) {
	for {
		rest := text[size:]
		if len(rest) < 2 {
			return size, len(rest) == 0 || rest[0] == 0x1b
		}
		if rest[0] != 0x1b || rest[1] != '[' {
			return size, false
		}
		end := bytes.IndexFunc(rest[2:], func(c rune) bool { return c != ';' && (c < '0' || c > '9') })
		if end < 0 {
			return size, true
		}
		if rest[2+end] != 'm' {
			return size, false
		}
		size += 2 + end + 1
	}
}

// number reads the digits with which text begins.
func number(text []byte) (n, digits int) {
	for digits < len(text) && text[digits] >= '0' && text[digits] <= '9' {
		digits++
	}
	n, err := strconv.Atoi(string(text[:digits]))
	if err != nil {
		return -1, digits
	}
	return n, digits
}

// merged adds parameters to the query of what follows a URL's host.
func merged(tail string, query map[string]string) string {
	u, err := url.Parse(tail)
	if err != nil {
		return tail
	}
	values := u.Query()
	for name, value := range query {
		values.Set(name, value)
	}
	u.RawQuery = values.Encode()
	return u.String()
}
