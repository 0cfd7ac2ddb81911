package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// difference is one place where the two answers differ.
type difference struct {
	path       string
	real, ours string
}

// comparer knows which id, key or generated name of one server stands for
// which of the other: each pair binds when it is first met in the same place,
// and holds for the rest of the sequence.
type comparer struct {
	toOurs, toReal map[string]string
	now            time.Time
}

func newComparer(now time.Time) *comparer {
	return &comparer{toOurs: map[string]string{}, toReal: map[string]string{}, now: now}
}

// bind says whether a and b stand for the same thing.
func (c *comparer) bind(a, b string) bool {
	known, bound := c.toOurs[a]
	back, taken := c.toReal[b]
	if bound || taken {
		return bound && taken && known == b && back == a
	}
	c.toOurs[a], c.toReal[b] = b, a
	return true
}

// answers compares two answers. A wrong status is the only difference then.
func (c *comparer) answers(call call, a, b answer) []difference {
	if a.status != b.status {
		return []difference{{"status", fmt.Sprintf("%d %s", a.status, brief(a.body)), fmt.Sprintf("%d %s", b.status, brief(b.body))}}
	}
	var out []difference
	for _, name := range []string{"Content-Type", "WWW-Authenticate", "Location"} {
		x, y := headerValue(a.header, name), headerValue(b.header, name)
		if !c.texts(x, y) {
			out = append(out, difference{"header." + name, x, y})
		}
	}
	x, y := a.body, b.body
	if a.status == http.StatusUnprocessableEntity {
		x, y = faults(x), faults(y)
	}
	for path, key := range call.Sort {
		sortAt(x, path, key)
		sortAt(y, path, key)
	}
	return append(out, c.values("", x, y)...)
}

func headerValue(h http.Header, name string) string {
	value := h.Get(name)
	if name != "Content-Type" {
		return value
	}
	if kind, _, err := mime.ParseMediaType(value); err == nil {
		return kind
	}
	return value
}

// faults makes a map of the list of a 422: by location, then by type. "input"
// repeats what was sent, and "ctx" and "url" belong to one library.
func faults(body any) any {
	list, ok := body.(map[string]any)
	if !ok {
		return body
	}
	details, ok := list["detail"].([]any)
	if !ok {
		return body
	}
	out := map[string]any{}
	for _, d := range details {
		fault, ok := d.(map[string]any)
		if !ok {
			return body
		}
		var loc []string
		if parts, ok := fault["loc"].([]any); ok {
			for _, p := range parts {
				loc = append(loc, fmt.Sprint(p))
			}
		}
		out[strings.Join(loc, ".")+": "+fmt.Sprint(fault["type"])] = fault["msg"]
	}
	return map[string]any{"detail": out}
}

func sortAt(tree any, path, key string) {
	value, _ := lookUp(tree, path)
	list, ok := value.([]any)
	if !ok {
		return
	}
	by := func(v any) string {
		field, _ := lookUp(v, key)
		return brief(field)
	}
	slices.SortStableFunc(list, func(a, b any) int { return cmp.Compare(by(a), by(b)) })
}

func (c *comparer) values(path string, a, b any) []difference {
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			return c.objects(path, x, y)
		}
	case []any:
		if y, ok := b.([]any); ok {
			return c.lists(path, x, y)
		}
	case string:
		if y, ok := b.(string); ok && c.texts(x, y) {
			return nil
		}
	case json.Number:
		if y, ok := b.(json.Number); ok && sameNumber(x, y) {
			return nil
		}
	default:
		if a == b {
			return nil
		}
	}
	return []difference{{path, brief(a), brief(b)}}
}

func sameNumber(a, b json.Number) bool {
	x, err := a.Float64()
	y, err2 := b.Float64()
	return err == nil && err2 == nil && x == y
}

func (c *comparer) objects(path string, a, b map[string]any) []difference {
	all := maps.Clone(a)
	maps.Copy(all, b)
	var out []difference
	for _, key := range slices.Sorted(maps.Keys(all)) {
		at := key
		if path != "" {
			at = path + "." + key
		}
		x, inA := a[key]
		y, inB := b[key]
		switch {
		case !inA:
			out = append(out, difference{at, "(absent)", brief(y)})
		case !inB:
			out = append(out, difference{at, brief(x), "(absent)"})
		default:
			out = append(out, c.values(at, x, y)...)
		}
	}
	return out
}

func (c *comparer) lists(path string, a, b []any) []difference {
	var out []difference
	if len(a) != len(b) {
		out = append(out, difference{path + ".length", fmt.Sprintf("%d: %s", len(a), brief(a)), fmt.Sprintf("%d: %s", len(b), brief(b))})
	}
	for i := range min(len(a), len(b)) {
		out = append(out, c.values(fmt.Sprintf("%s[%d]", path, i), a[i], b[i])...)
	}
	return out
}

// volatile finds what a server makes up: private keys, public keys, ids and
// times.
var volatile = regexp.MustCompile(`-----BEGIN [A-Z ]+-----[^-]+-----END [A-Z ]+-----` +
	`|ssh-[a-z0-9]+ [A-Za-z0-9+/=]{40,}` +
	`|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}` +
	`|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)` +
	`|127\.0\.0\.1:\d+`)

// texts compares strings piece by piece: what is made up must stand for the
// same thing, the rest must be equal.
func (c *comparer) texts(a, b string) bool {
	if a == b {
		return true
	}
	if c.toOurs[a] == b && c.toReal[b] == a {
		return true
	}
	x, y := volatile.FindAllString(a, -1), volatile.FindAllString(b, -1)
	if len(x) != len(y) || c.fixed(a) != c.fixed(b) {
		return false
	}
	for i := range x {
		if !c.sameMadeUp(x[i], y[i]) {
			return false
		}
	}
	return true
}

// fixed is the text without what is made up. Generated names that were saved
// are replaced by the other server's.
func (c *comparer) fixed(s string) string { return volatile.ReplaceAllString(s, "\x00") }

func (c *comparer) sameMadeUp(a, b string) bool {
	if t, err := time.Parse(time.RFC3339, a); err == nil {
		u, err := time.Parse(time.RFC3339, b)
		if err != nil {
			return false
		}
		const near = 48 * time.Hour
		recent := t.Sub(c.now).Abs() < near && u.Sub(c.now).Abs() < near
		return (recent || t.Equal(u)) && zone(a) == zone(b)
	}
	if strings.HasPrefix(a, "-----BEGIN") {
		kind, _, _ := strings.Cut(a, "\n")
		if !strings.HasPrefix(b, kind) {
			return false
		}
	}
	return c.bind(a, b)
}

// zone is how a time is written: with Z or an offset, whole or with 6 digits.
func zone(s string) string {
	if strings.HasSuffix(s, "Z") {
		return "Z"
	}
	return s[len(s)-6:]
}

// briefLength is how much of a value a report shows.
const briefLength = 600

func brief(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if len(data) > briefLength {
		return string(data[:briefLength]) + "…"
	}
	return string(data)
}

func whole(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}
