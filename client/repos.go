package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"time"

	"dstack/protocol/api"
)

// InitRepo makes a repo known to the project, with the caller's credentials
// for it, or without any.
func (p *Project) InitRepo(ctx context.Context, req api.SaveRepoCredsRequest) error {
	return p.do(ctx, read(p.path("repos/init")), req)
}

// GetRepo gives a repo with the caller's credentials; see [IsNotExist].
func (p *Project) GetRepo(ctx context.Context, id string) (api.RepoHeadWithCreds, error) {
	return call[api.RepoHeadWithCreds](ctx, p.Client, read(p.path("repos/get")), api.GetRepoRequest{RepoID: id, IncludeCreds: true})
}

// Upload is what is uploaded: Size bytes from the start of Content, whose
// SHA-256 in hex is Hash. It is read piece by piece.
type Upload struct {
	Hash    string
	Size    int64
	Content io.ReadSeeker
}

// UploadCode uploads the difference of a working copy to its repo.
func (p *Project) UploadCode(ctx context.Context, repoID string, u Upload) error {
	_, err := upload[*none](ctx, p.Client, p.path("repos/upload_code")+"?repo_id="+url.QueryEscape(repoID), u)
	return err
}

// FindArchive gives the archive that the caller uploaded with this hash; see
// [IsNotExist].
func (c *Client) FindArchive(ctx context.Context, hash string) (api.FileArchive, error) {
	return call[api.FileArchive](ctx, c, read("/api/files/get_archive_by_hash"), api.GetFileArchiveByHashRequest{Hash: hash})
}

// UploadArchive uploads a tar file for `files`, unless the server has it.
func (c *Client) UploadArchive(ctx context.Context, u Upload) (api.FileArchive, error) {
	found, err := c.FindArchive(ctx, u.Hash)
	if !IsNotExist(err) && !IsUnsupported(err) {
		return found, err
	}
	return upload[api.FileArchive](ctx, c, "/api/files/upload_archive", u)
}

// slowest is the bytes a second at which an upload may crawl.
const slowest = 16 << 10

// upload posts a form with one file. A repeat does no harm.
func upload[Out any](ctx context.Context, c *Client, path string, u Upload) (Out, error) {
	var out Out
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout+time.Duration(u.Size/slowest)*time.Second)
	defer cancel()
	patience := c.options.Patience
	if patience == 0 {
		patience = defaultPatience
	}
	wait := newBackoff(patience)
	for {
		data, err := c.postFile(ctx, path, u)
		if err != nil && mayRetry(err, true) && wait.next(ctx) {
			continue
		}
		if err != nil {
			return out, err
		}
		if err := json.Unmarshal(data, &out); err != nil {
			return out, fmt.Errorf("the answer of %s cannot be read, is a dstack server there? %w", c.base+path, err)
		}
		return out, nil
	}
}

func (c *Client) postFile(ctx context.Context, path string, u Upload) ([]byte, error) {
	if _, err := u.Content.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read upload: %w", err)
	}
	var head strings.Builder
	form := multipart.NewWriter(&head)
	if _, err := form.CreateFormFile("file", u.Hash); err != nil {
		return nil, fmt.Errorf("make form: %w", err)
	}
	before := head.Len()
	if err := form.Close(); err != nil {
		return nil, fmt.Errorf("make form: %w", err)
	}
	start, end := head.String()[:before], head.String()[before:]
	body := io.MultiReader(strings.NewReader(start), io.LimitReader(u.Content, u.Size), strings.NewReader(end))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.target+path, io.NopCloser(body))
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", path, err)
	}
	req.ContentLength = int64(len(start)) + u.Size + int64(len(end))
	req.Header.Set("Content-Type", form.FormDataContentType())
	// A server that finds it too large says so before it is sent.
	req.Header.Set("Expect", "100-continue")
	resp, err := c.send(ctx, path, req)
	if err != nil {
		return nil, err
	}
	data, err := readAll(resp)
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	return data, nil
}
