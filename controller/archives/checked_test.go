package archives

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"dstack/durable/blobs"
)

func sum(data string) string {
	h := sha256.Sum256([]byte(data))
	return hex.EncodeToString(h[:])
}

// TestChecked: the end is given only to those who got what the name promises.
func TestChecked(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 10000)
	for name, tc := range map[string]struct {
		came, want string
		size       int
		damaged    bool
		err        error
	}{
		"whole":     {came: long, want: long, size: len(long)},
		"empty":     {},
		"damaged":   {came: long[1:] + "x", want: long, size: len(long), damaged: true},
		"not empty": {want: "x", damaged: true},
		"cut":       {came: long[1:], want: long, size: len(long), err: io.ErrUnexpectedEOF},
		"too long":  {came: long + "x", want: long, size: len(long), damaged: true},
	} {
		for kind, wrap := range map[string]func(io.Reader) io.Reader{"": func(r io.Reader) io.Reader { return r }, "data and error": iotest.DataErrReader, "halves": iotest.HalfReader} {
			damaged := 0
			r := newChecked(io.NopCloser(wrap(strings.NewReader(tc.came))), sum(tc.want), int64(tc.size), func() { damaged++ })
			got, err := io.ReadAll(r)
			_, mismatch := errors.AsType[*blobs.MismatchError](err)
			if wantErr := tc.damaged || tc.err != nil; (err != nil) != wantErr || mismatch != tc.damaged || (damaged == 1) != tc.damaged || !tc.damaged && !errors.Is(err, tc.err) {
				t.Errorf("%s, %s: %v, damaged %d", name, kind, err, damaged)
			}
			if err == nil && string(got) != tc.came || tc.damaged && len(got) >= tc.size && tc.size > 0 {
				t.Errorf("%s, %s: got %d bytes", name, kind, len(got))
			}
			if _, again := r.Read(make([]byte, 1)); again == nil {
				t.Errorf("%s, %s: read beyond the end", name, kind)
			}
		}
	}
}
