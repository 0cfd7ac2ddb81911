//go:build e2e

package litestream

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dstack/test/storages"
)

// TestKeyStays: the encryption key that a server made is neither in the replica
// nor in a log; without it nothing is restored.
func TestKeyStays(t *testing.T) {
	st := storages.S3(t)
	st.Make(t, "bucket")
	env := environment(st, st.URL("bucket", "p"), "DSTACK_SERVER_ENCRYPTION_KEY=")
	s := server(t, t.TempDir(), env, "--debug")
	notes{}.writeOne(t, s, "one")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.Dir, "server", "encryption.key")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.TrimSpace(text)
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil || len(raw) != 32 {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	response, err := http.Get("http://" + st.Proxy.Address + "/bucket?list-type=2")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	list, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	keys := regexp.MustCompile("<Key>([^<]*)</Key>").FindAllStringSubmatch(string(list), -1)
	if len(keys) == 0 {
		t.Fatalf("the replica is empty: %s", list)
	}
	changes := regexp.MustCompile(`^p/\d{4}/[0-9a-f]{16}-[0-9a-f]{16}\.ltx$`)
	for _, key := range keys {
		if !changes.MatchString(key[1]) {
			t.Errorf("the replica has %s", key[1])
		}
	}
	dir := t.TempDir()
	if said := run(t, 1, dir, env, "server", "restore"); !strings.Contains(said, "encryption.key") {
		t.Error(said)
	}
	run(t, 0, dir, append(env, "DSTACK_SERVER_ENCRYPTION_KEY="+string(text)), "server", "restore")
	database, err := os.ReadFile(filepath.Join(dir, "server", "data", "sqlite.db"))
	if err != nil || !bytes.Contains(database, []byte("enc:aes:")) {
		t.Fatalf("%d bytes, %v", len(database), err)
	}
	for what, data := range map[string][]byte{"database": database, "log": []byte(s.Log())} {
		for _, form := range [][]byte{text, raw, []byte(hex.EncodeToString(raw)), []byte(base64.RawURLEncoding.EncodeToString(raw))} {
			if bytes.Contains(data, form) {
				t.Errorf("the key is in the %s", what)
			}
		}
	}
}
