package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	var first, second bytes.Buffer
	if err := errors.Join(write(&first), write(&second)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two archives differ")
	}
	modes, files := map[string]int64{}, map[string][]byte{}
	archive := tar.NewReader(&first)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err != nil || header.Uid != 0 || header.Gid != 0 {
			t.Fatalf("%s: %v, owner %d:%d", header.Name, err, header.Uid, header.Gid)
		}
		modes[header.Name], files[header.Name] = header.Mode, data
	}
	want := map[string]int64{
		"etc/": 0o755, "etc/passwd": 0o644, "etc/group": 0o644, "etc/ssl/": 0o755, "etc/ssl/certs/": 0o755,
		"etc/ssl/certs/ca-certificates.crt": 0o644,
		"root/":                             0o755, "root/.dstack/": 0o1777, "root/.dstack/server/": 0o1777, "tmp/": 0o1777,
	}
	if diff := cmp.Diff(want, modes); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(files["etc/ssl/certs/ca-certificates.crt"]) {
		t.Error("there are no certificates")
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	if err := run(nil); err == nil || err.Error() != "got 0 arguments, want the file to write" {
		t.Errorf("got %v", err)
	}
}
