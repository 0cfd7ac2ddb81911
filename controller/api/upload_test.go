package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"dstack/controller/objects"
	"dstack/controller/store"
	"dstack/protocol/api"
)

const (
	archivesPath = "/api/files/upload_archive"
	codes        = "/api/project/main/repos/upload_code?repo_id="
)

func sum(data string) string {
	h := sha256.Sum256([]byte(data))
	return hex.EncodeToString(h[:])
}

// form is a multipart body with one part; an empty file name makes it a field.
func form(t *testing.T, field, filename, data string) (body, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	create := w.CreateFormField
	if filename != "" {
		create = func(field string) (io.Writer, error) { return w.CreateFormFile(field, filename) }
	}
	part, err := create(field)
	if err == nil {
		_, err = io.WriteString(part, data)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

func (r *rig) upload(path, token, filename, data string) answer {
	r.t.Helper()
	body, kind := form(r.t, "file", filename, data)
	return r.request(http.MethodPost, path, token, body, "Content-Type", kind)
}

func archiveOf(t *testing.T, a answer) api.FileArchive {
	t.Helper()
	var out api.FileArchive
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status != http.StatusOK {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	return out
}

func TestUploadArchive(t *testing.T) {
	r := newRig(t)
	first := archiveOf(t, r.upload(archivesPath, adminToken, sum("one"), "one"))
	if first.Hash != sum("one") || first.ID == "" {
		t.Fatalf("archive %+v", first)
	}
	if again := archiveOf(t, r.upload(archivesPath, adminToken, sum("one"), "one")); again != first {
		t.Errorf("the same archive again is %+v, want %+v", again, first)
	}
	// Another user's archive of the same content is another one.
	if other := archiveOf(t, r.upload(archivesPath, memberToken, sum("one"), "one")); other.ID == first.ID {
		t.Error("two users share an archive")
	}
	const find = "/api/files/get_archive_by_hash"
	if found := post[api.FileArchive](r, find, `{"hash":"`+sum("one")+`"}`); found != first {
		t.Errorf("found %+v, want %+v", found, first)
	}
	if msg, code := refused(r, find, `{"hash":"none"}`); msg != "Resource not found" || code != "resource_not_exists" {
		t.Errorf("unknown hash: %q %q", msg, code)
	}
	var used []string
	if err := r.store.Read(t.Context(), func(tx *store.Tx) (err error) {
		used, err = tx.UsedBlobs([]string{sum("one"), sum("two")})
		return err
	}); err != nil || len(used) == 0 || used[0] != sum("one") {
		t.Errorf("used blobs %v: %v", used, err)
	}
}

// lost are blobs of which none is there, or which can't be reached.
type lost struct{ err error }

func (l lost) Put(context.Context, string, io.Reader) (int64, error) { return 0, l.err }

func (l lost) Has(context.Context, string) (bool, error) { return false, l.err }

// TestArchiveLost: a server that lost an archive gets it again; one that can't
// reach its storage says so.
func TestArchiveLost(t *testing.T) {
	var now struct{ Blobs }
	r := newRig(t, func(d *Deps) { now.Blobs, d.Blobs = d.Blobs, &now })
	whole := now.Blobs
	first := archiveOf(t, r.upload(archivesPath, adminToken, sum("one"), "one"))
	const find = "/api/files/get_archive_by_hash"
	now.Blobs = lost{}
	if msg, code := refused(r, find, `{"hash":"`+sum("one")+`"}`); msg != "Resource not found" || code != "resource_not_exists" {
		t.Errorf("lost: %q %q", msg, code)
	}
	for kind, want := range map[objects.Kind]string{
		objects.KindUnreachable: "The server can't reach its object storage. Try again in a moment.",
		objects.KindForbidden:   "The server can't use its object storage: the problem. Ask whoever runs the server; its log says more.",
	} {
		now.Blobs = lost{&objects.Fault{Kind: kind, Problem: "the problem", Remedy: "do this"}}
		want = `{"detail":{"msg":"` + want + `","code":"error"}}`
		if a := r.request(http.MethodPost, find, adminToken, `{"hash":"`+sum("one")+`"}`); a.status != http.StatusServiceUnavailable || a.body != want {
			t.Errorf("find: %d %s", a.status, a.body)
		}
		if a := r.upload(archivesPath, adminToken, sum("two"), "two"); a.status != http.StatusServiceUnavailable || a.body != want {
			t.Errorf("upload: %d %s", a.status, a.body)
		}
	}
	now.Blobs = whole
	if again := archiveOf(t, r.upload(archivesPath, adminToken, sum("one"), "one")); again != first {
		t.Errorf("again: %+v, want %+v", again, first)
	}
}

// TestCodeGoesWithItsProject: nothing names the code of a deleted project.
func TestCodeGoesWithItsProject(t *testing.T) {
	r := newRig(t)
	post[any](r, repos+"init", `{"repo_id":"r","repo_info":{"repo_type":"remote","repo_name":"n"}}`)
	if a := r.upload(codes+"r", adminToken, sum("diff"), "diff"); a.status != http.StatusOK {
		t.Fatalf("upload: %d %s", a.status, a.body)
	}
	used := func() (hashes []string) {
		if err := r.store.Read(t.Context(), func(tx *store.Tx) (err error) {
			hashes, err = tx.UsedBlobs([]string{sum("diff")})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return hashes
	}
	if len(used()) != 1 {
		t.Error("the code is not used")
	}
	post[any](r, "/api/projects/delete", `{"projects_names":["main"]}`)
	if left := used(); len(left) > 0 {
		t.Errorf("used by a project that is deleted: %v", left)
	}
}

func TestUploadCode(t *testing.T) {
	r := newRig(t)
	if a := r.upload(codes+"r", memberToken, sum("diff"), "diff"); a.status != http.StatusBadRequest ||
		a.body != `{"detail":[{"msg":"Repo r does not exist","code":"repo_does_not_exist"}]}` {
		t.Errorf("unknown repo: %d %s", a.status, a.body)
	}
	post[any](r, repos+"init", `{"repo_id":"r","repo_info":{"repo_type":"remote","repo_name":"n"}}`)
	for range 2 {
		if a := r.upload(codes+"r", memberToken, sum("diff"), "diff"); a.status != http.StatusOK || a.body != "null" {
			t.Errorf("upload: %d %s", a.status, a.body)
		}
	}
	if a := r.upload(codes+"r", outsiderToken, sum("diff"), "diff"); a.status != http.StatusForbidden {
		t.Errorf("outsider: %d %s", a.status, a.body)
	}
	var repo store.Repo
	read := func(fn func(tx *store.Tx) error) error { return r.store.Read(t.Context(), fn) }
	if err := read(func(tx *store.Tx) (err error) {
		if repo, err = tx.Repo(r.main.ID, "r"); err == nil {
			_, err = tx.RepoCode(repo.ID, sum("diff"))
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	post[any](r, repos+"delete", `{"repos_ids":["r"]}`)
	if err := read(func(tx *store.Tx) error {
		_, err := tx.RepoCode(repo.ID, sum("diff"))
		return err
	}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("code of a deleted repo: %v", err)
	}
}

// The texts are those that dstack 0.22.5 gives, but for the damaged upload,
// which it takes.
func TestUploadRefused(t *testing.T) {
	r := newRig(t, func(d *Deps) { d.UploadLimit = 1000 })
	field, fieldKind := form(t, "file", "", "x")
	other, otherKind := form(t, "other", "name", "x")
	large, largeKind := form(t, "file", "name", strings.Repeat("x", 3000))
	cut, cutKind := form(t, "file", sum("x"), "x")
	cut = cut[:len(cut)-30]
	damaged, damagedKind := form(t, "file", sum("x"), "y")
	const noFile = `{"detail":[{"type":"missing","loc":["body","file"],"msg":"Field required"}]}`
	tests := []struct {
		name, path, body, kind string
		status                 int
		want                   string
	}{
		{"no body", archivesPath, "", "", 422, noFile},
		{"JSON", archivesPath, "{}", "application/json", 422, noFile},
		{"another part", archivesPath, other, otherKind, 422, noFile},
		{"a field", archivesPath, field, fieldKind, 422, `{"detail":[{"type":"value_error","loc":["body","file"],"msg":"Value error, Expected UploadFile, received: \u003cclass 'str'\u003e"}]}`},
		{"no boundary", archivesPath, "x", "multipart/form-data", 400, `{"detail":"Missing boundary in multipart."}`},
		{"no parts", archivesPath, "x", "multipart/form-data; boundary=b", 400, `{"detail":"Invalid multipart data."}`},
		{"cut", archivesPath, cut, cutKind, 400, `{"detail":"Invalid multipart data."}`},
		{"no repo id", strings.TrimSuffix(codes, "?repo_id="), other, otherKind, 422, `{"detail":[{"type":"missing","loc":["query","repo_id"],"msg":"Field required"},{"type":"missing","loc":["body","file"],"msg":"Field required"}]}`},
		{"large archive", archivesPath, large, largeKind, 400, `{"detail":[{"msg":"Archive size is 3.2KiB, which exceeds the limit of 1000.0B. Use .gitignore/.dstackignore to exclude large files. This limit can be modified by setting the DSTACK_SERVER_CODE_UPLOAD_LIMIT environment variable.","code":"error"}]}`},
		{"large code", codes + "none", large, largeKind, 400, `{"detail":[{"msg":"Repo diff size is 3.2KiB, which exceeds the limit of 1000.0B. Use .gitignore to exclude large files from the repo. This limit can be modified by setting the DSTACK_SERVER_CODE_UPLOAD_LIMIT environment variable.","code":"error"}]}`},
		{"damaged", archivesPath, damaged, damagedKind, 400, `{"detail":[{"msg":"The upload is damaged, or its file name is not its SHA-256: it came as \"` + sum("x") + `\", and the SHA-256 of what came is ` + sum("y") + `. Upload it again.","code":"error"}]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := r.request(http.MethodPost, tt.path, adminToken, tt.body, "Content-Type", tt.kind)
			if a.status != tt.status || a.body != tt.want {
				t.Errorf("got  %d %s\nwant %d %s", a.status, a.body, tt.status, tt.want)
			}
		})
	}
}

// 2 MiB and a little more print alike, so bytes are shown, as in 0.22.5.
func TestSizesThatPrintAlike(t *testing.T) {
	t.Parallel()
	if got := sizeError("%s of %s.", 2097348, 2<<20).Error(); !strings.HasPrefix(got, "2097348B of 2097152B.") {
		t.Error(got)
	}
}

// endless is a body whose length nobody announces.
type endless struct {
	head io.Reader
	left int64
	tail io.Reader
}

func (e *endless) Read(p []byte) (int, error) {
	if n, err := e.head.Read(p); err == nil {
		return n, nil
	}
	if e.left > 0 {
		n := min(int64(len(p)), e.left)
		clear(p[:n])
		e.left -= n
		return int(n), nil
	}
	return e.tail.Read(p)
}

// zeros posts size zero bytes as a chunked upload.
func (r *rig) zeros(size int64) answer {
	r.t.Helper()
	h := sha256.New()
	if _, err := io.CopyN(h, &endless{head: strings.NewReader(""), left: size, tail: strings.NewReader("")}, size); err != nil {
		r.t.Fatal(err)
	}
	body, kind := form(r.t, "file", hex.EncodeToString(h.Sum(nil)), "@")
	head, tail, _ := strings.Cut(body, "@")
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.server.URL+archivesPath,
		&endless{head: strings.NewReader(head), left: size, tail: strings.NewReader(tail)})
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}

func TestChunkedUploadIsCounted(t *testing.T) {
	r := newRig(t)
	if a := r.zeros(5 << 20); a.status != http.StatusBadRequest || !strings.Contains(a.body, "exceeds the limit of 2.0MiB") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestLargeUploadTakesLittleMemory(t *testing.T) {
	r := newRig(t, func(d *Deps) { d.UploadLimit = 0 })
	const size, allowed = 200 << 20, 32 << 20
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	archiveOf(t, r.zeros(size))
	runtime.ReadMemStats(&after)
	// All that was ever allocated, so this holds whenever the collector runs.
	if grown := after.TotalAlloc - before.TotalAlloc; grown > allowed {
		t.Errorf("an upload of %d bytes allocated %d", size, grown)
	}
}
