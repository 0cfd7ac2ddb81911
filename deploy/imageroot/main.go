// Command imageroot writes what the image of Dockerfile.server has besides the
// program: certificates of the public authorities, and folders that any user
// may write to. The same sources give the same file, on every system.
package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"os"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"dstack/durable"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "imageroot:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("got %d arguments, want the file to write", len(args))
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	if err := durable.WriteFile(args[0], b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", args[0], err)
	}
	return nil
}

// entry is a file, or a folder if its name ends with a slash.
type entry struct {
	name string
	mode int64
	data []byte
}

// write writes the archive. Docker gives an empty volume the mode of the folder
// that it is mounted on: with these modes `docker run --user` works, too.
func write(w io.Writer) error {
	entries := []entry{
		{name: "etc/", mode: 0o755},
		{name: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/root:/sbin/nologin\n")},
		{name: "etc/group", mode: 0o644, data: []byte("root:x:0:\n")},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, data: certificates()},
		{name: "root/", mode: 0o755},
		{name: "root/.dstack/", mode: 0o1777},
		{name: "root/.dstack/server/", mode: 0o1777},
		{name: "tmp/", mode: 0o1777},
	}
	archive := tar.NewWriter(w)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.data)), Format: tar.FormatUSTAR}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("add %s: %w", e.name, err)
		}
		if _, err := archive.Write(e.data); err != nil {
			return fmt.Errorf("add %s: %w", e.name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("end archive: %w", err)
	}
	return nil
}

// certificates are the authorities that Mozilla trusts. Those that it trusts
// under a condition are left out: a file can't tell the condition.
func certificates() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
		}
	}
	return b.Bytes()
}
