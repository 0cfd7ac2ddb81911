// Package prometheus shows the server to Prometheus, under the names of
// 0.22.5 (spec: server-operations.md 8) and some of our own.
package prometheus

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Types of families.
const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
)

// family is all samples of one name.
type family struct {
	name, kind, help string
	samples          []sample
	// empty shows the family even without samples.
	empty bool
}

// sample is one value; suffix is "_sum" and the like of histograms.
type sample struct {
	suffix string
	labels []label
	value  float64
}

type label struct{ name, value string }

func (f *family) add(value float64, labels []label) {
	f.samples = append(f.samples, sample{labels: labels, value: value})
}

var (
	escapeValue = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	escapeHelp  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
)

// write writes families in the text format, version 0.0.4.
func write(to io.Writer, families []*family) error {
	w := bufio.NewWriter(to)
	for _, f := range families {
		if len(f.samples) == 0 && !f.empty {
			continue
		}
		// The writer keeps the first error for Flush.
		_, _ = w.WriteString("# HELP " + f.name + " " + escapeHelp.Replace(f.help) + "\n# TYPE " + f.name + " " + f.kind + "\n")
		for _, s := range f.samples {
			_, _ = w.WriteString(f.name + s.suffix)
			writeLabels(w, s.labels)
			_, _ = w.WriteString(" " + number(s.value) + "\n")
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	return nil
}

func writeLabels(w *bufio.Writer, labels []label) {
	for i, l := range labels {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		_, _ = w.WriteString(sep + l.name + `="` + escapeValue.Replace(l.value) + `"`)
	}
	if len(labels) > 0 {
		_ = w.WriteByte('}')
	}
}

// number writes a value as 0.22.5 does: 1 as 1.0.
func number(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	case math.IsNaN(v):
		return "NaN"
	}
	format := byte('f')
	if abs := math.Abs(v); abs >= 1e16 || abs != 0 && abs < 1e-4 {
		format = 'e'
	}
	s := strconv.FormatFloat(v, format, -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}
