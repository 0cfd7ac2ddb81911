package objects

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"net/textproto"
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

// GCS is a bucket of Google Cloud Storage, by the JSON API.
type GCS struct {
	target Target
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

// OpenGCS opens a bucket. Nothing is asked of it yet. Errors are sentences.
func OpenGCS(ctx context.Context, t Target, getenv func(string) string) (*GCS, error) {
	transport, err := gcsTransport(silence)
	if err != nil {
		return nil, err
	}
	plain := &http.Client{Transport: transport}
	b := &GCS{target: t, http: plain, base: "https://storage.googleapis.com", bucket: t.Bucket}
	if host := getenv(gcsEmulator); host != "" {
		if b.base = strings.TrimSuffix(host, "/"); !strings.Contains(host, "://") {
			b.base = "http://" + b.base
		}
		return b, nil
	}
	ctx = context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, plain)
	credentials, err := gcsCredentials(ctx, getenv)
	if err != nil {
		return nil, t.Fault("there are no usable credentials", "set "+t.variables(), err)
	}
	b.http = oauth2.NewClient(ctx, credentials.TokenSource)
	return b, nil
}

// silence is how long a connection may be silent before it is tested, and then
// before it counts as dead.
const silence = 5 * time.Second

// gcsTransport notices dead connections: all requests share one by HTTP/2, and
// the system gives it up after a quarter of an hour only.
func gcsTransport(silence time.Duration) (*http.Transport, error) {
	standard, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("the standard HTTP transport was replaced")
	}
	transport := standard.Clone()
	transport.DisableCompression = true // it would hide how large an object is
	transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: silence, PingTimeout: silence}
	return transport, nil
}

// Bucket is this one, for what all storages can.
func (b *GCS) Bucket() *Bucket { return &Bucket{target: b.target, driver: b} }

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

// Resource is what the API tells of an object.
type Resource struct {
	Name       string            `json:"name"`
	Size       int64             `json:"size,string"`
	Generation string            `json:"generation"`
	Created    time.Time         `json:"timeCreated"`
	Metadata   map[string]string `json:"metadata"`
}

// call sends a request below the API's address. The caller closes the body of
// a success; everything else is an error.
func (b *GCS) call(ctx context.Context, method, path string, query url.Values, header http.Header, body io.Reader) (*http.Response, error) {
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
		return nil, fmt.Errorf("%w: %w", ErrChanged, e)
	case e.Status == http.StatusNotFound && (method == http.MethodGet || method == http.MethodDelete) && !strings.Contains(e.Message, "bucket does not exist"):
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, e)
	}
	return nil, e
}

func (b *GCS) at(key string) string {
	return "/storage/v1/b/" + url.PathEscape(b.bucket) + "/o/" + url.PathEscape(key)
}

// Range opens an object from an offset; a size of 0 means all of the rest.
func (b *GCS) Range(ctx context.Context, key string, offset, size int64) (*http.Response, error) {
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

func (b *GCS) get(ctx context.Context, key string) (io.ReadCloser, Object, error) {
	response, err := b.Range(ctx, key, 0, 0)
	if err != nil {
		return nil, Object{}, err
	}
	return response.Body, Object{Key: key, Size: response.ContentLength, Version: response.Header.Get("X-Goog-Generation")}, nil
}

func (b *GCS) stat(ctx context.Context, key string) (Object, error) {
	response, err := b.call(ctx, http.MethodGet, b.at(key), nil, nil, nil)
	if err != nil {
		return Object{}, err
	}
	var r Resource
	err = decode(response, &r)
	return r.object(), err
}

func (r *Resource) object() Object {
	return Object{Key: r.Name, Size: r.Size, Changed: r.Created, Version: r.Generation}
}

func (b *GCS) put(ctx context.Context, key string, content io.ReadSeeker) error {
	_, err := b.store(ctx, url.Values{"name": {key}}, "application/octet-stream", struct{ io.Reader }{content})
	return err
}

func (b *GCS) swap(ctx context.Context, key string, data []byte, version string) (string, error) {
	if version == "" {
		version = "0" // there is none
	}
	stored, err := b.store(ctx, url.Values{"name": {key}, "ifGenerationMatch": {version}}, "application/json", bytes.NewReader(data))
	return stored.Generation, err
}

// store uploads an object in one request.
func (b *GCS) store(ctx context.Context, query url.Values, contentType string, content io.Reader) (Resource, error) {
	query.Set("uploadType", "media")
	response, err := b.call(ctx, http.MethodPost, b.uploads(), query, http.Header{"Content-Type": {contentType}}, content)
	if err != nil {
		return Resource{}, err
	}
	var stored Resource
	err = decode(response, &stored)
	return stored, err
}

func (b *GCS) uploads() string { return "/upload/storage/v1/b/" + url.PathEscape(b.bucket) + "/o" }

// Upload stores an object with metadata in one request of two parts: what it
// is, and its content.
func (b *GCS) Upload(ctx context.Context, key string, metadata map[string]string, content io.Reader) error {
	about, err := json.Marshal(map[string]any{"name": key, "metadata": metadata})
	if err != nil {
		return fmt.Errorf("describe upload: %w", err)
	}
	var before, after bytes.Buffer
	parts := multipart.NewWriter(&before)
	// Writes to a buffer don't fail.
	p, _ := parts.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/json; charset=UTF-8"}})
	_, _ = p.Write(about)
	_, _ = parts.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/octet-stream"}})
	after.WriteString("\r\n--" + parts.Boundary() + "--\r\n")
	response, err := b.call(ctx, http.MethodPost, b.uploads(), url.Values{"uploadType": {"multipart"}},
		http.Header{"Content-Type": {"multipart/related; boundary=" + parts.Boundary()}}, io.MultiReader(&before, content, &after))
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return fmt.Errorf("end upload: %w", err)
	}
	return nil
}

// Delete removes an object; one that is gone already is no error.
func (b *GCS) Delete(ctx context.Context, key string) error {
	if err := b.remove(ctx, key, ""); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (b *GCS) remove(ctx context.Context, key, version string) error {
	query := url.Values{}
	if version != "" {
		query.Set("ifGenerationMatch", version)
	}
	response, err := b.call(ctx, http.MethodDelete, b.at(key), query, nil, nil)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func (b *GCS) list(ctx context.Context, prefix string, each func(Object)) error {
	return b.Resources(ctx, prefix, "", func(r Resource) {
		each(r.object())
	})
}

// Resources lists objects in the order of their names, from start on.
func (b *GCS) Resources(ctx context.Context, prefix, start string, each func(Resource)) error {
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
			Items         []Resource `json:"items"`
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

func (b *GCS) close() { b.http.CloseIdleConnections() }
