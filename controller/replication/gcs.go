package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"

	"cloud.google.com/go/storage"
	"github.com/benbjohnson/litestream/gs"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
)

// Where Google's credentials are: a file, or its text.
const (
	gcsFile = "GOOGLE_APPLICATION_CREDENTIALS"
	gcsJSON = "GOOGLE_APPLICATION_CREDENTIALS_JSON"
)

// gcsObjects is a bucket of Google Cloud Storage.
type gcsObjects struct {
	api    *storage.Client
	bucket *storage.BucketHandle
}

func connectGCS(ctx context.Context, t Target, getenv func(string) string) (*remote, error) {
	if text := getenv(gcsJSON); text != "" {
		forget, err := lendCredentials(text)
		if err != nil {
			return nil, t.fault("the credentials of "+gcsJSON+" can't be handed to Google's library", "make the temporary folder writable", err)
		}
		defer forget()
	}
	client := gs.NewReplicaClient()
	client.Bucket, client.Path = t.Bucket, t.Path
	if err := client.Init(ctx); err != nil {
		return nil, t.explain(err)
	}
	api, err := storage.NewClient(context.WithoutCancel(ctx))
	if err != nil {
		return nil, t.explain(err)
	}
	return &remote{objects: &gcsObjects{api: api, bucket: api.Bucket(t.Bucket)}, client: client}, nil
}

// lendCredentials puts them where Google's library looks, for as long as it
// takes to make clients: Litestream's has no other way. The clients keep them
// in memory.
func lendCredentials(text string) (forget func(), err error) {
	f, err := os.CreateTemp("", "dstack-gcs-*.json") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("make file: %w", err)
	}
	_, err = f.WriteString(text)
	old, was := os.LookupEnv(gcsFile)
	if err = errors.Join(err, f.Close(), os.Setenv(gcsFile, f.Name())); err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	return func() {
		if was {
			_ = os.Setenv(gcsFile, old) // it was set to this before
		} else {
			_ = os.Unsetenv(gcsFile)
		}
		_ = os.Remove(f.Name())
	}, nil
}

func (o *gcsObjects) get(ctx context.Context, key string) ([]byte, string, error) {
	r, err := o.bucket.Object(key).NewReader(ctx)
	if err != nil {
		return nil, "", gcsError(err)
	}
	data, err := readAll(r)
	return data, strconv.FormatInt(r.Attrs.Generation, 10), err
}

func (o *gcsObjects) put(ctx context.Context, key string, data []byte, version string) (string, error) {
	cond := storage.Conditions{DoesNotExist: true}
	if version != "" {
		var err error
		if cond, err = gcsVersion(version); err != nil {
			return "", err
		}
	}
	w := o.bucket.Object(key).If(cond).NewWriter(ctx)
	w.ContentType = "application/json"
	w.ChunkSize = 0 // one request
	_, err := w.Write(data)
	if err = errors.Join(err, w.Close()); err != nil {
		return "", gcsError(err)
	}
	return strconv.FormatInt(w.Attrs().Generation, 10), nil
}

func (o *gcsObjects) remove(ctx context.Context, key, version string) error {
	cond, err := gcsVersion(version)
	if err != nil {
		return err
	}
	if err = gcsError(o.bucket.Object(key).If(cond).Delete(ctx)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func gcsVersion(version string) (storage.Conditions, error) {
	n, err := strconv.ParseInt(version, 10, 64)
	if err != nil {
		return storage.Conditions{}, fmt.Errorf("read generation: %w", err)
	}
	return storage.Conditions{GenerationMatch: n}, nil
}

func (o *gcsObjects) list(ctx context.Context, prefix string, each func(object)) error {
	all := o.bucket.Objects(ctx, &storage.Query{Prefix: prefix})
	for {
		a, err := all.Next()
		if errors.Is(err, iterator.Done) {
			return nil
		}
		if err != nil {
			return gcsError(err)
		}
		each(object{key: a.Name, size: a.Size, changed: a.Created})
	}
}

func (o *gcsObjects) open(ctx context.Context, key string) (io.ReadCloser, error) {
	r, err := o.bucket.Object(key).NewReader(ctx)
	if err != nil {
		return nil, gcsError(err)
	}
	return r, nil
}

func (o *gcsObjects) close() {
	_ = o.api.Close() // only closes connections
}

// gcsError marks what the callers of objects tell apart.
func gcsError(err error) error {
	if errors.Is(err, storage.ErrObjectNotExist) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if e, ok := errors.AsType[*googleapi.Error](err); ok && e.Code == http.StatusPreconditionFailed {
		return fmt.Errorf("%w: %w", errChanged, err)
	}
	return err
}
