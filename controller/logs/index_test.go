package logs

import (
	"bytes"
	"testing"
)

func FuzzScanIndex(f *testing.F) {
	good := record{20, 6}.append(record{10, 5}.append(nil))
	f.Add(good, int64(20))
	f.Add(good[:30], int64(20))
	f.Add(append(good, make([]byte, 3*recordSize)...), int64(1000))
	f.Add([]byte("garbage that is longer than one record"), int64(1<<62))
	f.Fuzz(func(t *testing.T, index []byte, size int64) {
		count, last, err := scanIndex(bytes.NewReader(index), size)
		if err != nil {
			t.Fatal(err)
		}
		if count*recordSize > int64(len(index)) || last.end < 0 || (count > 0 && last.end > size) {
			t.Fatalf("count %d, last %+v for %d bytes of index and %d of data", count, last, len(index), size)
		}
		// What was accepted is what a writer could have written.
		prev := record{micros: -1 << 63}
		var again []byte
		for i := range count {
			rec, ok := parseRecord(index[i*recordSize:])
			if !ok || rec.end <= prev.end || rec.micros <= prev.micros && i > 0 {
				t.Fatalf("record %d: %+v after %+v", i, rec, prev)
			}
			prev, again = rec, rec.append(again)
		}
		if !bytes.Equal(again, index[:len(again)]) {
			t.Fatal("records do not encode to themselves")
		}
	})
}

func FuzzPartialRune(f *testing.F) {
	f.Add([]byte("a\xf0\x9f\x98"))
	f.Add([]byte("\x80\x80\x80\x80"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := partialRune(b)
		if n < 0 || n > 3 || n > len(b) {
			t.Fatalf("partialRune(%q) = %d", b, n)
		}
	})
}

func TestPartialRune(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int{
		"": 0, "a": 0, "ä": 0, "\xc3": 1, "a\xe2": 1, "a\xe2\x82": 2, "€": 0, "\xf0\x9f\x98": 3, "😀": 0,
		"\xff": 0, "\x80\x80": 0, "\xf0\x9f\x98\x80\x80": 0, "a\xc3\x28": 0,
	} {
		if got := partialRune([]byte(in)); got != want {
			t.Errorf("partialRune(%q) = %d, want %d", in, got, want)
		}
	}
}
