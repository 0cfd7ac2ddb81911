package prometheus

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// vector is a counter or a histogram for each combination of label values.
// Its zero value with names is ready for use, from many goroutines.
type vector struct {
	// names are the labels; buckets the upper bounds of a histogram in
	// seconds, without +Inf; nil for a counter.
	names   []string
	buckets []float64

	mu   sync.Mutex
	rows map[string]*row
}

type row struct {
	values []string
	count  float64
	sum    float64
	// within counts what is in each bucket alone.
	within []float64
}

// observe counts one thing; a histogram also how long it took.
func (v *vector) observe(took time.Duration, values ...string) {
	key := strings.Join(values, "\x00")
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.rows[key]
	if r == nil {
		if v.rows == nil {
			v.rows = map[string]*row{}
		}
		r = &row{values: values, within: make([]float64, len(v.buckets))}
		v.rows[key] = r
	}
	seconds := took.Seconds()
	r.count++
	r.sum += seconds
	if i, _ := slices.BinarySearch(v.buckets, seconds); i < len(r.within) {
		r.within[i]++
	}
}

// fill gives a family the samples so far. name may turn label values into
// what is shown.
func (v *vector) fill(f *family, name func(values []string) []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	sorted := slices.SortedFunc(maps.Values(v.rows), func(a, b *row) int { return slices.Compare(a.values, b.values) })
	for _, r := range sorted {
		labels := make([]label, len(v.names), len(v.names)+1)
		for i, value := range name(r.values) {
			labels[i] = label{v.names[i], value}
		}
		if v.buckets == nil {
			f.add(r.count, labels)
			continue
		}
		total := 0.0
		for i, bound := range v.buckets {
			total += r.within[i]
			f.bucket(labels, number(bound), total)
		}
		f.bucket(labels, "+Inf", r.count)
		f.samples = append(f.samples, sample{"_count", labels, r.count}, sample{"_sum", labels, r.sum})
	}
}

func (f *family) bucket(labels []label, bound string, n float64) {
	with := append(slices.Clone(labels), label{"le", bound})
	f.samples = append(f.samples, sample{"_bucket", with, n})
}

func asIs(values []string) []string { return values }

// byLabels orders what comes from rows, so that two scrapes look alike.
func byLabels(a, b sample) int {
	return slices.CompareFunc(a.labels, b.labels, func(x, y label) int { return cmp.Compare(x.value, y.value) })
}
