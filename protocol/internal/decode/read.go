package decode

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Text reads a string; numbers become their decimal text.
func Text(v Value) string {
	switch v.node.Kind {
	case String:
		return v.node.Text
	case Int, Float:
		return v.node.number()
	}
	hint := ""
	if v.node.Kind == Bool && !v.secret {
		hint = "put it in quotes if it is meant as text"
	}
	v.FailHint("string_type", "must be a string", hint)
	return ""
}

var (
	intText   = regexp.MustCompile(`^\s*[+-]?\d+(?:_\d+)*(?:\.0+)?\s*$`)
	floatForm = regexp.MustCompile(`^(?i:[+-]?(?:\d+(?:_\d+)*\.?(?:\d+(?:_\d+)*)?|\.\d+(?:_\d+)*)(?:e[+-]?\d+(?:_\d+)*)?)$`)
	boolTexts = map[string]bool{
		"true": true, "t": true, "yes": true, "y": true, "on": true, "1": true,
		"false": false, "f": false, "no": false, "n": false, "off": false, "0": false,
	}
)

// Integer reads an integer; booleans are 0 and 1, whole floats and numeric
// strings count.
func Integer(v Value) int {
	n := v.node
	switch n.Kind {
	case Int:
		if !n.Big {
			return int(n.Int)
		}
		v.Fail("int_parsing_size", "is too large for an integer", "")
		return 0
	case Bool:
		if n.Bool {
			return 1
		}
		return 0
	case Float:
		if n.Float == math.Trunc(n.Float) && math.Abs(n.Float) < 1<<53 {
			return int(n.Float)
		}
		v.Fail("int_from_float", "must be an integer", "")
		return 0
	case String:
		if i, ok := ParseInt(n.Text); ok {
			return i
		}
		v.Fail("int_parsing", "must be an integer", "")
		return 0
	}
	v.Fail("int_type", "must be an integer", "")
	return 0
}

// ParseInt reads the text of an integer as 0.22.5 does: a sign, digits with
// single underscores, blanks around and a trailing .0 are fine.
func ParseInt(s string) (int, bool) {
	if !intText.MatchString(s) {
		return 0, false
	}
	s, _, _ = strings.Cut(strings.TrimSpace(s), ".")
	i, err := strconv.Atoi(strings.ReplaceAll(s, "_", ""))
	return i, err == nil
}

// ParseFloat reads the text of a finite float with single underscores.
func ParseFloat(s string) (float64, bool) {
	s = strings.TrimSpace(s)
	if !floatForm.MatchString(s) {
		return 0, false
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	return positiveZero(f), err == nil
}

// positiveZero removes the sign of a zero: JSON writers differ in keeping it,
// and no field means anything by it.
func positiveZero(f float64) float64 {
	if f == 0 {
		return 0
	}
	return f
}

// IntBetween reads an integer within limits.
func IntBetween(low, high int) Reader[int] {
	return func(v Value) int {
		i, ok := Try(v, Integer)
		if !ok {
			return 0
		}
		checkInt(v, i, low, high)
		return i
	}
}

// IntMin reads an integer with a lower limit.
func IntMin(low int) Reader[int] { return IntBetween(low, math.MaxInt) }

func checkInt(v Value, i, low, high int) {
	switch {
	case i < low:
		failMin(v, strconv.Itoa(low))
	case i > high:
		failMax(v, strconv.Itoa(high))
	}
}

func failMin(v Value, low string) {
	v.FailWire("greater_than_equal", "must be >= "+low, "Input should be greater than or equal to "+low, "")
}

func failMax(v Value, high string) {
	v.FailWire("less_than_equal", "must be <= "+high, "Input should be less than or equal to "+high, "")
}

func failAbove(v Value, low string) {
	v.FailWire("greater_than", "must be > "+low, "Input should be greater than "+low, "")
}

// PositiveInt reads an integer above 0 and at most high.
func PositiveInt(high int) Reader[int] {
	return func(v Value) int {
		i, ok := Try(v, Integer)
		if ok {
			CheckPositive(v, i, high)
		}
		return i
	}
}

// CheckPositive reports an integer that is not above 0, or is above high.
func CheckPositive(v Value, i, high int) {
	switch {
	case i <= 0:
		failAbove(v, "0")
	case i > high:
		failMax(v, strconv.Itoa(high))
	}
}

// Number reads a finite float; booleans and numeric strings count.
func Number(v Value) float64 {
	n := v.node
	switch n.Kind {
	case Float, Int:
		if !math.IsInf(n.Float, 0) && !math.IsNaN(n.Float) {
			return positiveZero(n.Float)
		}
		v.Fail("finite_number", "must be a finite number", "")
		return 0
	case Bool:
		return float64(Integer(v))
	case String:
		if f, ok := ParseFloat(n.Text); ok {
			return f
		}
		v.Fail("float_parsing", "must be a number", "")
		return 0
	}
	v.Fail("float_type", "must be a number", "")
	return 0
}

// NumberBetween reads a float within limits.
func NumberBetween(low, high float64) Reader[float64] {
	return func(v Value) float64 {
		f, ok := Try(v, Number)
		switch {
		case !ok:
		case f < low:
			failMin(v, limitText(low))
		case f > high:
			failMax(v, limitText(high))
		}
		return f
	}
}

// limitText writes a limit without a needless fraction.
func limitText(f float64) string { return strings.TrimSuffix(floatText(f), ".0") }

// Positive reads a float above 0.
func Positive(v Value) float64 {
	f, ok := Try(v, Number)
	if ok && f <= 0 {
		failAbove(v, "0")
	}
	return f
}

// Boolean reads a boolean, 0 or 1, or one of the words for them.
func Boolean(v Value) bool {
	n := v.node
	switch n.Kind {
	case Bool:
		return n.Bool
	case Int, Float:
		if !n.Big && (n.Float == 0 || n.Float == 1) {
			return n.Float == 1
		}
	case String:
		if b, ok := boolTexts[strings.ToLower(n.Text)]; ok {
			return b
		}
	case Null, Other, List, Map:
		v.Fail("bool_type", "must be a boolean", "true or false")
		return false
	}
	v.Fail("bool_parsing", "must be a boolean", "true or false")
	return false
}
