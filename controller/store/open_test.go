package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"dstack/protocol/config"
)

func aesKey(name string, b byte) AESKey { return AESKey{Name: name, Secret: [32]byte{b}} }

func sealer(t *testing.T, keys ...AESKey) *Sealer {
	t.Helper()
	s, err := NewSealer(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// database makes a database with one row of each kind and returns its path.
func database(t *testing.T, s *Sealer) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sqlite.db")
	db, err := Open(t.Context(), Options{Path: path, Sealer: s})
	if err != nil {
		t.Fatal(err)
	}
	write(t, db, func(tx *Tx) error {
		repo := Repo{ID: "x", ProjectID: "p1", RepoID: "r", Info: []byte("{}")}
		return errors.Join(seed(tx), tx.PutRepo(&repo), tx.PutRepoCreds(&RepoCreds{RepoPK: "x", UserID: "u1"}),
			tx.InsertBackend(&Backend{ID: "b1", ProjectID: "p1", Type: "aws", Spec: json.RawMessage(`"hush-hush"`)}),
			tx.InsertSecret(&Secret{ID: "s1", ProjectID: "p1", Name: "TOKEN", Value: "hush-hush", CreatedAt: at(1), UpdatedAt: at(1)}))
	})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// raw runs SQL on a closed database.
func raw(t *testing.T, path string, query string) []string {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// refused opens a database that must be refused and stay as it is.
func refused(t *testing.T, opts Options, want error, words ...string) {
	t.Helper()
	before, err := os.ReadFile(opts.Path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), opts)
	if err == nil {
		t.Fatal(s.Close(), "was opened")
	}
	var f *Fault
	if !errors.Is(err, want) || !errors.As(err, &f) || f.Remedy == "" || f.Path != opts.Path {
		t.Errorf("Open = %v, want %v with the path and a remedy", err, want)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q has several lines", err)
	}
	after, err := os.ReadFile(opts.Path)
	if err != nil || string(before) != string(after) {
		t.Errorf("the file was changed: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	t.Run("newer", func(t *testing.T) {
		t.Parallel()
		path := database(t, nil)
		raw(t, path, "INSERT INTO schema_versions VALUES (99)")
		refused(t, Options{Path: path}, ErrNewer, "99", "nothing was changed")
	})
	t.Run("wrong key", func(t *testing.T) {
		t.Parallel()
		path := database(t, sealer(t, aesKey("k", 1)))
		refused(t, Options{Path: path, Sealer: sealer(t, aesKey("k", 2))}, ErrWrongKey, `key "k"`)
		refused(t, Options{Path: path}, ErrWrongKey)
	})
	t.Run("no database", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "sqlite.db")
		if err := os.WriteFile(path, []byte(strings.Repeat("this is no database ", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, Options{Path: path}, ErrCorrupt, "backup")
	})
	t.Run("damaged", func(t *testing.T) {
		t.Parallel()
		path := database(t, nil)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 100; i < 4096; i++ { // the schema is in the first page
			b[i] = 0xff
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, Options{Path: path}, ErrCorrupt)
	})
	t.Run("another program's", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "sqlite.db")
		raw(t, path, "CREATE TABLE alembic_version (version_num TEXT)")
		refused(t, Options{Path: path}, ErrForeign)
	})
	t.Run("in use", func(t *testing.T) {
		t.Parallel()
		path := database(t, nil)
		openTest(t, Options{Path: path})
		refused(t, Options{Path: path}, ErrInUse)
	})
	t.Run("a file where the folder should be", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "data")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(t.Context(), Options{Path: filepath.Join(file, "sqlite.db")})
		if !errors.Is(err, ErrReadOnly) || !strings.Contains(err.Error(), file) {
			t.Errorf("Open = %v", err)
		}
	})
}

// TestPath opens a database whose path has what means something in a URI.
func TestPath(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a b?c=d%20#ü", "sqlite.db")
	openTest(t, Options{Path: path})
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Errorf("database: %v, %v", info, err)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error]error{
		syscall.ENOSPC: ErrDiskFull, syscall.EDQUOT: ErrDiskFull,
		syscall.EROFS: ErrReadOnly, syscall.EACCES: ErrReadOnly, syscall.EPERM: ErrReadOnly,
	} {
		err := explain("/data/x", &os.PathError{Op: "open", Path: "/data/x", Err: cause})
		if !errors.Is(err, want) || !errors.Is(err, cause) {
			t.Errorf("explain(%v) = %v", cause, err)
		}
	}
	if err := explain("x", context.Canceled); !errors.Is(err, context.Canceled) || explain("x", nil) != nil {
		t.Errorf("explain = %v", err)
	}
}

// TestDiskFull lets SQLite run out of pages, which is the same error.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, inline := range []bool{false, true} {
		s := openTest(t, Options{Inline: inline})
		write(t, s, seed)
		pages := func(n string) func(*Tx) error {
			return func(tx *Tx) error {
				return tx.query(func(*sql.Rows) error { return nil }, "PRAGMA max_page_count = "+n)
			}
		}
		write(t, s, pages("60"))
		big := Event{ID: "big", Message: strings.Repeat("x", 1<<20)}
		err := s.Write(t.Context(), func(tx *Tx) error { return tx.InsertEvents(big) })
		if !errors.Is(err, ErrDiskFull) || !strings.Contains(err.Error(), "sqlite.db") {
			t.Errorf("Write = %v", err)
		}
		write(t, s, pages("1000000"))
		write(t, s, func(tx *Tx) error { return tx.InsertEvents(big) })
		read(t, s, func(tx *Tx) error { return same(t, "job", testJob())(tx.Job("j1")) })
	}
}

func TestMigrations(t *testing.T) {
	t.Parallel()
	s := openTest(t, Options{Memory: true, Inline: true})
	c := <-s.readers
	defer func() { s.readers <- c }()
	steps, err := migrations(fstest.MapFS{
		"migrations/0001_a.sql": {Data: []byte("CREATE TABLE a (x BIGINT)")},
		"migrations/0002_b.sql": {Data: []byte("CREATE TABLE b (x BIGINT); INSERT INTO nothing VALUES (1)")},
	})
	if err != nil || len(steps) != 2 {
		t.Fatal(steps, err)
	}
	for i := range steps {
		steps[i].version += 1000
	}
	if err := migrate(t.Context(), c, steps, PlainSealer(), false); err == nil || !strings.Contains(err.Error(), "version 1002") {
		t.Errorf("migrate = %v", err)
	}
	version, err := schemaVersion(t.Context(), c)
	if err != nil || version > 1000 {
		t.Errorf("version %d after a failed migration, %v", version, err)
	}
	if _, err := c.exec(t.Context(), "SELECT x FROM a"); err == nil {
		t.Error("half of the migration is there")
	}
	for _, names := range [][]string{{"x.sql"}, {"0000_a.sql"}, {"0001_a.sql", "0001_b.sql"}} {
		files := fstest.MapFS{}
		for _, name := range names {
			files["migrations/"+name] = &fstest.MapFile{}
		}
		if _, err := migrations(files); err == nil {
			t.Errorf("%s were taken", names)
		}
	}
}

// TestMigrationsMissing brings in a step whose number lies below one that the
// database has seen already.
func TestMigrationsMissing(t *testing.T) {
	t.Parallel()
	s := openTest(t, Options{Memory: true, Inline: true})
	c := <-s.readers
	defer func() { s.readers <- c }()
	first := []migration{{1001, "CREATE TABLE a (x BIGINT)"}, {1003, "CREATE TABLE c (x BIGINT)"}}
	if err := migrate(t.Context(), c, first, PlainSealer(), false); err != nil {
		t.Fatal(err)
	}
	got, err := missing(t.Context(), c, append(first, migration{1002, "CREATE TABLE b (x BIGINT)"}))
	if err != nil || len(got) != 1 || got[0].version != 1002 {
		t.Errorf("missing = %v, %v", got, err)
	}
}

// TestSealed looks for secrets in the file.
func TestSealed(t *testing.T) {
	t.Parallel()
	path := database(t, sealer(t, aesKey("k", 1)))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"token-1", "PEM of", "hush-hush", "python train.py"} {
		if strings.Contains(string(b), secret) {
			t.Errorf("%q is in the file", secret)
		}
	}
	if !strings.Contains(string(b), "enc:aes:k:") {
		t.Error("nothing is encrypted")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestRotation puts a new key first: everything is encrypted again, and the
// old key can go.
func TestRotation(t *testing.T) {
	t.Parallel()
	path := database(t, PlainSealer())
	older, newer := aesKey("older", 1), aesKey("newer", 2)
	plain := sealer(t, newer)
	plain.plain = true
	for _, step := range []struct {
		sealer *Sealer
		form   string
	}{
		{sealer(t, older), "enc:aes:older:%"},
		{sealer(t, newer, older), "enc:aes:newer:%"},
		{sealer(t, newer), "enc:aes:newer:%"},
		{plain, "enc:identity:noname:%"},
	} {
		s, err := Open(t.Context(), Options{Path: path, Sealer: step.sealer})
		if err != nil {
			t.Fatal(err)
		}
		read(t, s, func(tx *Tx) error { return same(t, "job", testJob())(tx.Job("j1")) })
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, col := range sealedColumns() {
			if other := raw(t, path, "SELECT "+col.column+" FROM "+col.table+" WHERE "+col.column+" NOT LIKE '"+step.form+"'"); len(other) > 0 {
				t.Errorf("%s.%s: %q, want %s", col.table, col.column, other, step.form)
			}
			if n := raw(t, path, "SELECT count(*) FROM "+col.table); n[0] == "0" {
				t.Errorf("%s has no row", col.table)
			}
		}
	}
}

func TestLoadSealer(t *testing.T) {
	t.Parallel()
	secret := func(b byte) string { k := [32]byte{b}; return base64.StdEncoding.EncodeToString(k[:]) }
	dir := t.TempDir()
	// No key and no permission to make one.
	_, err := LoadSealer(KeySource{Dir: dir})
	if !errors.Is(err, ErrBadKey) || !strings.Contains(err.Error(), filepath.Join(dir, KeyFile)) {
		t.Errorf("LoadSealer = %v", err)
	}
	made, err := LoadSealer(KeySource{Dir: filepath.Join(dir, "new"), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	sealed := made.Seal("x")
	if !strings.HasPrefix(sealed, "enc:aes:file:") {
		t.Errorf("sealed = %s", sealed)
	}
	info, err := os.Stat(filepath.Join(dir, "new", KeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info, err)
	}
	// The next start finds it, also behind others.
	for _, src := range []KeySource{
		{Create: true}, {}, {Env: secret(1)}, {Config: []config.EncryptionKey{{Type: "aes", Name: "k1", Secret: secret(1)}}}, {Config: []config.EncryptionKey{{Type: "identity", Name: "", Secret: ""}}},
	} {
		src.Dir = filepath.Join(dir, "new")
		s, err := LoadSealer(src)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := s.Unseal(sealed); err != nil || text != "x" {
			t.Errorf("%+v: %q, %v", src, text, err)
		}
	}
	for src, want := range map[*KeySource]string{
		{Env: secret(1)}: "enc:aes:env:",
		{Config: []config.EncryptionKey{{Type: "aes", Name: "k1", Secret: secret(1)}}, Env: secret(2)}:                           "enc:aes:k1:",
		{Config: []config.EncryptionKey{{Type: "identity", Name: "", Secret: ""}, {Type: "aes", Name: "k1", Secret: secret(1)}}}: "enc:identity:noname:x",
		{Config: []config.EncryptionKey{{Type: "aes", Name: "k2", Secret: secret(2)}, {Type: "identity"}}, Env: ""}:              "enc:aes:k2:",
	} {
		src.Dir = dir
		s, err := LoadSealer(*src)
		if err != nil || !strings.HasPrefix(s.Seal("x"), want) {
			t.Errorf("%+v: %v, want %s", src, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, KeyFile)); err == nil {
		t.Error("a key file was made beside a configured key")
	}
	for _, bad := range []KeySource{
		{Env: "short"}, {Env: base64.StdEncoding.EncodeToString([]byte("short"))},
		{Config: []config.EncryptionKey{{Type: "aes", Name: "k", Secret: "x"}}}, {Config: []config.EncryptionKey{{Type: "aes", Name: "", Secret: secret(1)}}},
		{Config: []config.EncryptionKey{{Type: "aes", Name: "a:b", Secret: secret(1)}}}, {Config: []config.EncryptionKey{{Type: "des", Name: "k", Secret: secret(1)}}},
	} {
		bad.Dir = dir
		_, err := LoadSealer(bad)
		if !errors.Is(err, ErrBadKey) || bad.Env != "" && strings.Contains(err.Error(), bad.Env) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func FuzzUnseal(f *testing.F) {
	s, err := NewSealer(aesKey("k", 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Seal("x"))
	f.Add("enc:aes:k:")
	f.Add("enc:identity:noname:x")
	f.Fuzz(func(t *testing.T, sealed string) {
		text, err := s.Unseal(sealed)
		if err != nil {
			if !errors.Is(err, ErrWrongKey) {
				t.Fatal(err)
			}
			return
		}
		if again, err := s.Unseal(s.Seal(text)); err != nil || again != text {
			t.Fatalf("%q came back as %q, %v", text, again, err)
		}
	})
}
