package hosts

import (
	"bufio"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// The folder is filled by `make build`; a bare checkout has a .gitignore in it.
//
//go:embed all:payload
var embedded embed.FS

// Digests is the payload's table of contents: a line "SHA256 NAME" for each
// binary, of which NAME.zst lies beside it.
const Digests = "digests"

// Payload is the set of binaries for hosts that this build carries.
type Payload struct {
	files fs.FS
	sums  map[string]string // name → SHA-256 in hex of the uncompressed binary
}

// Binary is one program of the payload.
type Binary struct {
	Name string
	// Digest is the SHA-256 of the uncompressed program in hex.
	Digest string
	files  fs.FS
}

// ErrNoPayload says that the build carries no binaries.
var ErrNoPayload = errors.New("this build has no shim inside; run `make build`")

// Embedded is the payload inside this executable; it is empty on a bare build.
func Embedded() (Payload, error) {
	sub, err := fs.Sub(embedded, "payload")
	if err != nil {
		return Payload{}, fmt.Errorf("open payload: %w", err)
	}
	return LoadPayload(sub)
}

// LoadPayload reads the table of contents in files.
func LoadPayload(files fs.FS) (Payload, error) {
	p := Payload{files: files, sums: map[string]string{}}
	f, err := files.Open(Digests)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("open payload: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		sum, name, ok := strings.Cut(lines.Text(), " ")
		if !ok || len(sum) != 64 || strings.ContainsAny(name, "/ ") {
			return p, fmt.Errorf("read payload: bad line %q", lines.Text())
		}
		p.sums[name] = sum
	}
	if err := lines.Err(); err != nil {
		return p, fmt.Errorf("read payload: %w", err)
	}
	return p, nil
}

// find gives a program ("dstack-shim", "dstack-agent") for linux on arch.
func (p Payload) find(program, arch string) (Binary, error) {
	name := program + "-linux-" + arch
	sum, ok := p.sums[name]
	if !ok {
		return Binary{}, ErrNoPayload
	}
	return Binary{Name: name, Digest: sum, files: p.files}, nil
}

// ShimDigest is the SHA-256 in hex of the shim for linux on arch (amd64, arm64),
// empty if the build carries none.
func (p Payload) ShimDigest(arch string) string { return p.sums["dstack-shim-linux-"+arch] }

// Open reads the uncompressed program.
func (b Binary) Open() (io.ReadCloser, error) {
	f, err := b.files.Open(b.Name + ".zst")
	if err != nil {
		return nil, fmt.Errorf("open payload: %w", err)
	}
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open payload %s: %w", b.Name, err), f.Close())
	}
	return &packed{Decoder: z, file: f}, nil
}

type packed struct {
	*zstd.Decoder
	file fs.File
}

func (p *packed) Close() error {
	p.Decoder.Close()
	if err := p.file.Close(); err != nil {
		return fmt.Errorf("close payload: %w", err)
	}
	return nil
}
