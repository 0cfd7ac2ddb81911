package controller

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite"

	"dstack/controller/store"
	"dstack/protocol/config"
)

// TestFetchedWithoutKey: what 0.22.5 did not encrypt in its replica is not
// encrypted with a key that only a new folder has, unless somebody said how.
func TestFetchedWithoutKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("legacy/testdata/0.22.5.sql")
	if err != nil {
		t.Fatal(err)
	}
	fetched := filepath.Join(t.TempDir(), "sqlite.db")
	db, err := sql.Open("sqlite", fetched)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), string(text)+"; DELETE FROM secrets; DELETE FROM repo_creds; DELETE FROM backends; UPDATE users SET token = 'enc:identity:noname:' || id")
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	const key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	for name, tt := range map[string]struct {
		change  func(*Config) []config.EncryptionKey
		refused bool
	}{
		"no key": {func(*Config) []config.EncryptionKey { return nil }, true},
		"variable": {func(c *Config) []config.EncryptionKey {
			c.Settings.EncryptionKey = key
			return nil
		}, false},
		"file on a volume": {func(c *Config) []config.EncryptionKey {
			if err := errors.Join(os.MkdirAll(c.Settings.Dir, 0o700), os.WriteFile(filepath.Join(c.Settings.Dir, store.KeyFile), []byte(key), 0o600)); err != nil {
				t.Error(err)
			}
			return nil
		}, false},
		"config.yml": {func(*Config) []config.EncryptionKey {
			return []config.EncryptionKey{{Type: config.KeyAES, Name: "k", Secret: key}}
		}, false},
		"config.yml: none": {func(*Config) []config.EncryptionKey { return []config.EncryptionKey{{Type: config.KeyIdentity}} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, _ := testConfig(t, t.TempDir())
			keys := tt.change(&cfg)
			s := &Server{cfg: cfg}
			err := s.checkFetched(t.Context(), fetched, "s3://bucket/path", keys)
			switch {
			case !tt.refused && err != nil:
				t.Error(err)
			case tt.refused && (err == nil || !strings.Contains(err.Error(), "s3://bucket/path: ") || !strings.Contains(err.Error(), "set DSTACK_SERVER_ENCRYPTION_KEY") || strings.Contains(err.Error(), "\n")):
				t.Errorf("got %v", err)
			}
		})
	}
}
