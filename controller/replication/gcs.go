package replication

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

// Google's library for this needs gRPC and costs every command of the CLI 3 ms
// at its start and 6 MB; the JSON API needs neither.

// Where Google's credentials are: a file, or its text.
const (
	gcsFile = "GOOGLE_APPLICATION_CREDENTIALS"
	gcsJSON = "GOOGLE_APPLICATION_CREDENTIALS_JSON"
	// gcsEmulator is where an emulator listens, as in Google's libraries.
	gcsEmulator = "STORAGE_EMULATOR_HOST"
	gcsScope    = "https://www.googleapis.com/auth/devstorage.read_write"
)

// gcsBucket is a bucket of Google Cloud Storage, by the JSON API.
type gcsBucket struct {
	http   *http.Client
	base   string // without a slash at its end
	bucket string
}

// gcsError is an answer that is no success.
type gcsError struct {
	Status  int
	Message string
}

func (e *gcsError) Error() string {
	return fmt.Sprintf("Google Cloud Storage answered %d: %s", e.Status, e.Message)
}

func connectGCS(ctx context.Context, t Target, getenv func(string) string) (*remote, error) {
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("the standard HTTP transport was replaced")
	}
	plain := &http.Client{Transport: transport.Clone()}
	b := &gcsBucket{http: plain, base: "https://storage.googleapis.com", bucket: t.Bucket}
	if host := getenv(gcsEmulator); host != "" {
		if b.base = strings.TrimSuffix(host, "/"); !strings.Contains(host, "://") {
			b.base = "http://" + b.base
		}
	} else {
		ctx = context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, plain)
		credentials, err := gcsCredentials(ctx, getenv)
		if err != nil {
			return nil, t.fault("there are no usable credentials", "set "+t.variables(), err)
		}
		b.http = oauth2.NewClient(ctx, credentials.TokenSource)
	}
	return &remote{objects: b, client: &gcsReplica{gcsBucket: b, path: t.Path}}, nil
}

// gcsCredentials are those of the variables, or of the place where this runs.
func gcsCredentials(ctx context.Context, getenv func(string) string) (*google.Credentials, error) {
	text := getenv(gcsJSON)
	if text == "" {
		return google.FindDefaultCredentials(ctx, gcsScope)
	}
	var kind struct {
		Type google.CredentialsType `json:"type"`
	}
	if err := json.Unmarshal([]byte(text), &kind); err != nil {
		return nil, fmt.Errorf("%s is no JSON", gcsJSON) // the cause would quote the secret
	}
	return google.CredentialsFromJSONWithType(ctx, []byte(text), kind.Type, gcsScope)
}

// resource is what the API tells of an object.
type resource struct {
	Name       string            `json:"name"`
	Size       int64             `json:"size,string"`
	Generation string            `json:"generation"`
	Created    time.Time         `json:"timeCreated"`
	Metadata   map[string]string `json:"metadata"`
}

// call sends a request below the API's address. The caller closes the body of
// a success; everything else is an error.
func (b *gcsBucket) call(ctx context.Context, method, path string, query url.Values, header http.Header, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, b.base+path+"?"+query.Encode(), body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := b.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode < http.StatusMultipleChoices {
		return response, nil
	}
	text, err := readAll(response.Body)
	e := &gcsError{Status: response.StatusCode, Message: strings.TrimSpace(string(text))}
	var answer struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(text, &answer) == nil && answer.Error.Message != "" {
		e.Message = answer.Error.Message
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("read answer: %w", err)
	case e.Status == http.StatusPreconditionFailed:
		return nil, fmt.Errorf("%w: %w", errChanged, e)
	case e.Status == http.StatusNotFound && (method == http.MethodGet || method == http.MethodDelete) && !strings.Contains(e.Message, "bucket does not exist"):
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, e)
	}
	return nil, e
}

func (b *gcsBucket) at(key string) string {
	return "/storage/v1/b/" + url.PathEscape(b.bucket) + "/o/" + url.PathEscape(key)
}

// read opens an object from an offset; a size of 0 means all of the rest.
func (b *gcsBucket) read(ctx context.Context, key string, offset, size int64) (*http.Response, error) {
	header := http.Header{}
	if offset > 0 || size > 0 {
		part := fmt.Sprintf("bytes=%d-", offset)
		if size > 0 {
			part += strconv.FormatInt(offset+size-1, 10)
		}
		header.Set("Range", part)
	}
	return b.call(ctx, http.MethodGet, b.at(key), url.Values{"alt": {"media"}}, header, nil)
}

func (b *gcsBucket) get(ctx context.Context, key string) ([]byte, string, error) {
	response, err := b.read(ctx, key, 0, 0) //nolint:bodyclose // readAll does
	if err != nil {
		return nil, "", err
	}
	data, err := readAll(response.Body)
	return data, response.Header.Get("X-Goog-Generation"), err
}

func (b *gcsBucket) put(ctx context.Context, key string, data []byte, version string) (string, error) {
	if version == "" {
		version = "0" // there is none
	}
	query := url.Values{"uploadType": {"media"}, "name": {key}, "ifGenerationMatch": {version}}
	header := http.Header{"Content-Type": {"application/json"}}
	response, err := b.call(ctx, http.MethodPost, "/upload/storage/v1/b/"+url.PathEscape(b.bucket)+"/o", query, header, bytes.NewReader(data))
	if err != nil {
		return "", err
	}
	var stored resource
	err = decode(response, &stored)
	return stored.Generation, err
}

func (b *gcsBucket) remove(ctx context.Context, key, version string) error {
	query := url.Values{}
	if version != "" {
		query.Set("ifGenerationMatch", version)
	}
	response, err := b.call(ctx, http.MethodDelete, b.at(key), query, nil, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func (b *gcsBucket) list(ctx context.Context, prefix string, each func(object)) error {
	return b.resources(ctx, prefix, "", func(r resource) {
		each(object{key: r.Name, size: r.Size, changed: r.Created})
	})
}

// resources lists objects in the order of their names, from start on.
func (b *gcsBucket) resources(ctx context.Context, prefix, start string, each func(resource)) error {
	query := url.Values{"prefix": {prefix}, "fields": {"nextPageToken,items(name,size,generation,timeCreated,metadata)"}}
	if start != "" {
		query.Set("startOffset", start)
	}
	for {
		response, err := b.call(ctx, http.MethodGet, "/storage/v1/b/"+url.PathEscape(b.bucket)+"/o", query, nil, nil)
		if errors.Is(err, fs.ErrNotExist) {
			return &gcsError{Status: http.StatusNotFound, Message: "the bucket does not exist"}
		}
		if err != nil {
			return err
		}
		var page struct {
			Items         []resource `json:"items"`
			NextPageToken string     `json:"nextPageToken"`
		}
		if err := decode(response, &page); err != nil {
			return err
		}
		for _, r := range page.Items {
			each(r)
		}
		if page.NextPageToken == "" {
			return nil
		}
		query.Set("pageToken", page.NextPageToken)
	}
}

func decode(response *http.Response, out any) error {
	err := json.NewDecoder(response.Body).Decode(out)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

func (b *gcsBucket) open(ctx context.Context, key string) (io.ReadCloser, error) {
	response, err := b.read(ctx, key, 0, 0)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

func (b *gcsBucket) close() { b.http.CloseIdleConnections() }
