package archives

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"

	"dstack/durable/blobs"
)

// checked is an archive of which the last bytes are given only if it is whole
// and what its name promises.
type checked struct {
	io.ReadCloser

	want    string
	left    int64
	sum     hash.Hash
	damaged func()
	err     error
}

func newChecked(r io.ReadCloser, want string, size int64, damaged func()) *checked {
	return &checked{ReadCloser: r, want: want, left: size, sum: sha256.New(), damaged: damaged}
}

// Read reads the next bytes.
func (c *checked) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.ReadCloser.Read(p)
	c.sum.Write(p[:n])
	c.left -= int64(n)
	switch {
	case err == io.EOF && c.left > 0:
		c.err = io.ErrUnexpectedEOF
	case c.left <= 0:
		// All is here: it is checked before the end is given away.
		if got := hex.EncodeToString(c.sum.Sum(nil)); c.left < 0 || got != c.want {
			c.damaged()
			c.err = &blobs.MismatchError{Want: c.want, Got: got}
			return 0, c.err
		}
		c.err = io.EOF
		return n, nil
	default:
		c.err = err
	}
	return n, c.err
}
