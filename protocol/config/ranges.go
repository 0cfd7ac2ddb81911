package config

import (
	"fmt"
	"math"
	"strings"

	"dstack/protocol/internal/decode"
)

// number is a bound of a Range.
type number interface{ int | float64 }

// readRange reads an interval: {min, max}, a text with "..", or one value
// for both ends (spec: configuration.md 2.1).
func readRange[T number](bound decode.Reader[T]) decode.Reader[Range[T]] {
	return func(v decode.Value) Range[T] {
		n := v.Node()
		switch {
		case n.Kind == decode.Map:
			return readRangeObject(v, bound)
		case n.Kind == decode.String && strings.Contains(n.Text, ".."):
			return readRangeText(v, bound)
		case n.Kind == decode.Null || n.Kind == decode.List || n.Kind == decode.Other:
			v.Fail("model_attributes_type", "must be a value or a range", "N, N..M, N.., ..M or {min, max}")
			return Range[T]{}
		}
		x := bound(v.At(n, "min"))
		bound(v.At(n, "max")) // 0.22.5 reports both; files show one
		return Range[T]{Min: &x, Max: &x}
	}
}

func readRangeObject[T number](v decode.Value, bound decode.Reader[T]) Range[T] {
	o := v.Object()
	defer o.Done()
	r, ok := decode.Try(v, func(decode.Value) Range[T] {
		return Range[T]{
			Min: decode.Field(o, "min", decode.Optional(bound)),
			Max: decode.Field(o, "max", decode.Optional(bound)),
		}
	})
	if ok {
		checkRange(v, r)
	}
	return r
}

func readRangeText[T number](v decode.Value, bound decode.Reader[T]) Range[T] {
	n := v.Node()
	low, high, _ := strings.Cut(withoutBlanks(n.Text), "..")
	if strings.Contains(high, "..") {
		v.Fail("value_error", "must have one '..'", "N..M, N.. or ..M")
		return Range[T]{}
	}
	r, ok := decode.Try(v, func(decode.Value) Range[T] {
		var r Range[T]
		if low != "" {
			x := bound(v.At(n.WithText(low), "min"))
			r.Min = &x
		}
		if high != "" {
			x := bound(v.At(n.WithText(high), "max"))
			r.Max = &x
		}
		return r
	})
	if ok {
		checkRange(v, r)
	}
	return r
}

func checkRange[T number](v decode.Value, r Range[T]) {
	switch {
	case r.Min == nil && r.Max == nil:
		v.FailValue("range has no bounds", "Invalid empty range: ..", "N..M, N.. or ..M")
	case r.Min != nil && r.Max != nil && *r.Min > *r.Max:
		v.FailValue("range has its minimum above its maximum", "Invalid range order: "+ordered(r), "")
	}
}

// ordered writes a range as 0.22.5 does: sizes have their unit.
func ordered[T number](r Range[T]) string {
	unit := ""
	if _, isSize := any(*r.Min).(float64); isSize {
		unit = "GB"
	}
	return fmt.Sprintf("%v%s..%v%s", *r.Min, unit, *r.Max, unit)
}

// withoutBlanks removes all spaces.
func withoutBlanks(s string) string { return strings.ReplaceAll(s, " ", "") }

// readMemory reads a size in gigabytes: a number, or a text with the unit MB,
// GB or TB (spec: configuration.md 2.2).
func readMemory(v decode.Value) float64 {
	if v.Kind() != decode.String {
		return decode.Number(v)
	}
	gb, ok := ParseMemory(v.Node().Text)
	if !ok {
		v.FailValue("must be a size", "could not convert string to float: '"+strings.ToLower(withoutBlanks(v.Node().Text))+"'", "a number with MB, GB or TB")
	}
	return gb
}

// memoryUnits maps the units to gigabytes of 1024 MB.
var memoryUnits = []struct {
	suffix string
	factor float64
}{{"tb", 1024}, {"gb", 1}, {"mb", 1.0 / 1024}}

// ParseMemory gives the gigabytes of a size such as "512MB" or "16".
func ParseMemory(s string) (float64, bool) {
	s = strings.ToLower(withoutBlanks(s))
	factor := 1.0
	for _, unit := range memoryUnits {
		if number, ok := strings.CutSuffix(s, unit.suffix); ok {
			s, factor = number, unit.factor
			break
		}
	}
	f, ok := decode.ParseFloat(s)
	if f *= factor; f == 0 {
		f = 0 // a tiny negative size leaves a negative zero behind
	}
	return f, ok && !math.IsInf(f, 0)
}
