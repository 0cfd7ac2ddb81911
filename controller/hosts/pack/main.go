// Command pack compresses binaries into a folder that package hosts embeds:
//
//	go run ./controller/hosts/pack OUTDIR FILE...
//
// Each FILE becomes OUTDIR/<base name>.zst; OUTDIR/digests lists them. Binaries
// that were there before and are not named are removed.
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"dstack/controller/hosts"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: pack OUTDIR FILE...")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func pack(out string, files []string) error {
	if err := os.MkdirAll(out, 0o755); err != nil { //nolint:gosec // the paths are those of the command line
		return fmt.Errorf("make folder: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(out, "*.zst"))
	if err != nil {
		return fmt.Errorf("list %s: %w", out, err)
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil { //nolint:gosec // the paths are those of the command line
			return fmt.Errorf("remove old file: %w", err)
		}
	}
	var digests []byte
	for _, f := range files {
		sum, err := compress(f, filepath.Join(out, filepath.Base(f)+".zst"))
		if err != nil {
			return err
		}
		digests = fmt.Appendf(digests, "%s %s\n", sum, filepath.Base(f))
	}
	if err := os.WriteFile(filepath.Join(out, hosts.Digests), digests, 0o644); err != nil { //nolint:gosec // the paths are those of the command line
		return fmt.Errorf("write digests: %w", err)
	}
	return nil
}

func compress(from, to string) (_ string, err error) {
	in, err := os.Open(from) //nolint:gosec // the paths are those of the command line
	if err != nil {
		return "", fmt.Errorf("open binary: %w", err)
	}
	defer in.Close()          //nolint:errcheck // only read
	out, err := os.Create(to) //nolint:gosec // the paths are those of the command line
	if err != nil {
		return "", fmt.Errorf("create file: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	z, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return "", fmt.Errorf("start compression: %w", err)
	}
	hash := sha256.New()
	if _, err := io.Copy(io.MultiWriter(z, hash), in); err != nil {
		return "", fmt.Errorf("compress %s: %w", from, err)
	}
	if err := z.Close(); err != nil {
		return "", fmt.Errorf("compress %s: %w", from, err)
	}
	return fmt.Sprintf("%x", hash.Sum(nil)), nil
}
