package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"dstack/controller/store"
	"dstack/durable/blobs"
	"dstack/protocol/api"
)

// Blobs keeps what is uploaded, by content.
type Blobs interface {
	// Put keeps what r gives, whose SHA-256 in hex must be hash. It fails with
	// [*blobs.MismatchError] if it is not, and with the error of r.
	Put(ctx context.Context, hash string, r io.Reader) (size int64, err error)
	// Has says whether it is still there.
	Has(ctx context.Context, hash string) (bool, error)
}

// uploadField is the name of the only part of an upload that counts.
const uploadField = "file"

// Sentences for an upload that is too large, as 0.22.5 words them.
const (
	archiveTooLarge = "Archive size is %s, which exceeds the limit of %s. Use .gitignore/.dstackignore to exclude large files."
	codeTooLarge    = "Repo diff size is %s, which exceeds the limit of %s. Use .gitignore to exclude large files from the repo."
	limitHint       = " This limit can be modified by setting the DSTACK_SERVER_CODE_UPLOAD_LIMIT environment variable."
)

// uploadArchive keeps a tar file for `files` of the caller's runs.
func uploadArchive(a *API, g *gin.Context, c call) error {
	up, err := a.receive(g, archiveTooLarge)
	if err != nil {
		return err
	}
	row := store.FileArchive{ID: uuid.NewString(), UserID: c.User.ID, Hash: up.hash, Size: up.size, CreatedAt: a.deps.Now()}
	err = a.deps.Store.Write(g.Request.Context(), func(tx *store.Tx) error { return tx.PutFileArchive(&row) })
	if err != nil {
		return fmt.Errorf("save archive: %w", err)
	}
	return a.answer(g, http.StatusOK, api.FileArchive{ID: row.ID, Hash: row.Hash})
}

// findArchive tells a client whether it has to upload an archive at all.
func (a *API) findArchive(ctx context.Context, c call, in api.GetFileArchiveByHashRequest) (api.FileArchive, error) {
	var out api.FileArchive
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		row, err := tx.FileArchiveByHash(c.User.ID, in.Hash)
		if isNotFound(err) {
			return notExists(msgNotFound)
		}
		out = api.FileArchive{ID: row.ID, Hash: row.Hash}
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return out, fmt.Errorf("find archive: %w", err)
	}
	// After a restore of the database, or without its bucket, a server may lack
	// what it has a row of: it is uploaded again, and keeps its id.
	there, err := a.deps.Blobs.Has(ctx, in.Hash)
	switch {
	case err != nil:
		return out, fmt.Errorf("find archive: %w", err)
	case !there:
		return out, notExists(msgNotFound)
	}
	return out, nil
}

// uploadCode keeps the difference of a working copy to its repo.
func uploadCode(a *API, g *gin.Context, c call) error {
	up, err := a.receive(g, codeTooLarge, missing("query", "repo_id", g.Request.URL.Query().Has("repo_id"))...)
	if err != nil {
		return err
	}
	repoID := g.Query("repo_id")
	err = a.deps.Store.Write(g.Request.Context(), func(tx *store.Tx) error {
		repo, err := tx.Repo(c.Project.ID, repoID)
		if isNotFound(err) {
			return noRepo(repoID)
		}
		if err != nil {
			return fmt.Errorf("find repo: %w", err)
		}
		return tx.PutRepoCode(&store.RepoCode{
			ID: uuid.NewString(), RepoPK: repo.ID, Hash: up.hash, Size: up.size, CreatedAt: a.deps.Now(),
		})
	})
	if err != nil {
		return fmt.Errorf("save code: %w", err)
	}
	return a.answer(g, http.StatusOK, nil)
}

func noRepo(id string) *Error {
	e := refuse("Repo %s does not exist", id)
	e.Code = api.CodeRepoNotExists
	return e
}

// fault is one element of a 422 about something outside of a JSON body.
type fault struct {
	Type string   `json:"type"`
	Loc  []string `json:"loc"`
	Msg  string   `json:"msg"`
}

// faults answer 422.
type faults []fault

func (f faults) Error() string { return fmt.Sprintf("%s: %s", strings.Join(f[0].Loc, "."), f[0].Msg) }

func (f faults) detail() (int, any) { return http.StatusUnprocessableEntity, []fault(f) }

func missing(where, name string, present bool) []fault {
	if present {
		return nil
	}
	return []fault{{Type: "missing", Loc: []string{where, name}, Msg: "Field required"}}
}

// uploaded is a blob that was kept.
type uploaded struct {
	hash string
	size int64
}

// receive keeps the file part of a multipart request, piece by piece. more
// are other faults of the request. tooLarge says so with two sizes.
func (a *API) receive(g *gin.Context, tooLarge string, more ...fault) (uploaded, error) {
	r := g.Request
	limit := int64(a.deps.UploadLimit)
	if limit > 0 && r.ContentLength > limit {
		if r.Header.Get("Expect") == "" { // else the client has not begun to send
			discard(r.Body)
		}
		return uploaded{}, sizeError(tooLarge, r.ContentLength, limit)
	}
	counted := &countedReader{r: r.Body, limit: limit}
	up, err := a.readParts(r, counted)
	switch {
	case counted.over():
		discard(counted)
		return uploaded{}, sizeError(tooLarge, counted.n, limit)
	case err != nil:
		if _, ok := errors.AsType[faults](err); !ok || len(more) == 0 {
			return uploaded{}, err
		}
		return uploaded{}, append(faults(more), missing("body", uploadField, false)...)
	case len(more) > 0:
		return uploaded{}, faults(more)
	}
	return up, nil
}

// discard reads what a client still sends: it hears the answer only then.
func discard(r io.Reader) { _, _ = io.CopyN(io.Discard, r, maxDiscarded) }

func sizeError(format string, size, limit int64) error {
	a, b := sizeText(size), sizeText(limit)
	if a == b {
		a, b = fmt.Sprintf("%dB", size), fmt.Sprintf("%dB", limit)
	}
	return refuse("%s", fmt.Sprintf(format, a, b)+limitHint)
}

// sizeText is a size with one decimal in binary units.
func sizeText(n int64) string {
	v := float64(n)
	for _, unit := range []string{"B", "KiB", "MiB", "GiB", "TiB"} {
		if v < 1024 {
			return fmt.Sprintf("%.1f%s", v, unit)
		}
		v /= 1024
	}
	return fmt.Sprintf("%.1fPiB", v)
}

// countedReader fails once more than limit bytes were read; 0 is no limit.
type countedReader struct {
	r     io.Reader
	n     int64
	limit int64
}

var errTooLarge = errors.New("the upload is too large")

func (c *countedReader) over() bool { return c.limit > 0 && c.n > c.limit }

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	before := c.over()
	c.n += int64(n)
	if c.over() && !before {
		return n, errTooLarge
	}
	return n, err //nolint:wrapcheck // a reader
}

// readParts keeps the last part named file, as 0.22.5 does.
func (a *API) readParts(r *http.Request, body io.Reader) (uploaded, error) {
	noFile := faults(missing("body", uploadField, false))
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		discard(body)
		return uploaded{}, noFile
	}
	if params["boundary"] == "" {
		return uploaded{}, notMultipart("Missing boundary in multipart.")
	}
	parts := multipart.NewReader(body, params["boundary"])
	var up uploaded
	err = noFile
	for {
		part, bad := parts.NextRawPart()
		if bad == io.EOF { // what wraps it says that the end is missing
			return up, err
		}
		if bad != nil {
			return uploaded{}, notMultipart("Invalid multipart data.")
		}
		if part.FormName() != uploadField {
			continue
		}
		if up, err = a.keepPart(r.Context(), part); err != nil && !errors.As(err, &faults{}) {
			return uploaded{}, err
		}
	}
}

func (a *API) keepPart(ctx context.Context, part *multipart.Part) (uploaded, error) {
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	hash, named := params["filename"]
	if err != nil || !named {
		return uploaded{}, faults{{
			Type: "value_error", Loc: []string{"body", uploadField},
			Msg: "Value error, Expected UploadFile, received: <class 'str'>",
		}}
	}
	in := &partReader{r: part}
	size, err := a.deps.Blobs.Put(ctx, hash, in)
	if wrong, ok := errors.AsType[*blobs.MismatchError](err); ok {
		return uploaded{}, refuse("The upload is damaged, or its file name is not its SHA-256: it came as %.80q, "+
			"and the SHA-256 of what came is %s. Upload it again.", wrong.Want, wrong.Got)
	}
	switch {
	case in.err != nil:
		return uploaded{}, notMultipart("Invalid multipart data.")
	case err != nil:
		return uploaded{}, fmt.Errorf("keep upload: %w", err)
	}
	return uploaded{hash, size}, nil
}

// partReader remembers why a part could not be read, to tell a fault of the
// request from one of the disk.
type partReader struct {
	r   io.Reader
	err error
}

func (p *partReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		p.err = err
	}
	return n, err //nolint:wrapcheck // a reader
}

// notMultipart is a 400 whose detail is a text, as the framework of 0.22.5
// answers.
func notMultipart(text string) error { return &plainError{text} }

type plainError struct{ text string }

func (e *plainError) Error() string { return e.text }

func (e *plainError) detail() (int, any) { return http.StatusBadRequest, e.text }
