// Package objects talks to object storages: S3 and what has its protocol,
// Google Cloud Storage, and Azure Blob Storage. Credentials are taken from
// where the programs of these storages take them, too.
package objects

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

// ErrChanged means that an object is not the version that it was taken for.
var ErrChanged = errors.New("the object was changed")

// Object is what a storage says of an object.
type Object struct {
	Key     string
	Size    int64 // in bytes
	Changed time.Time
	// Version changes with the content; its form is the storage's own.
	Version string
}

// driver is a bucket of one of the storages. Errors are its own, but for those
// that wrap [fs.ErrNotExist] and ErrChanged.
type driver interface {
	get(ctx context.Context, key string) (io.ReadCloser, Object, error)
	stat(ctx context.Context, key string) (Object, error)
	put(ctx context.Context, key string, content io.ReadSeeker) error
	// swap writes if the version is still the given one; empty: there is none.
	swap(ctx context.Context, key string, data []byte, version string) (string, error)
	// remove deletes if the version is still the given one; empty: any is.
	remove(ctx context.Context, key, version string) error
	list(ctx context.Context, prefix string, each func(Object)) error
	close()
}

// Bucket is an open bucket or container. Keys are whole: the path of the
// target is not put before them. It is safe for concurrent use.
//
// Errors wrap [fs.ErrNotExist] where there is no such object, ErrChanged where
// it is another version, [context.Canceled] when the caller gave up; all
// others are a [*Fault], a sentence for the user.
type Bucket struct {
	target Target
	driver driver
}

// Open opens a target with the credentials of the environment. Nothing is
// asked of the storage yet, except in which region a bucket of AWS is.
func Open(ctx context.Context, t Target, getenv func(string) string) (*Bucket, error) {
	switch t.Scheme {
	case SchemeS3:
		if err := t.CheckS3Keys(getenv); err != nil {
			return nil, err
		}
		set := S3{Endpoint: t.Query.Get("endpoint"), Region: t.Query.Get("region")}
		set.PathStyle = set.Endpoint != "" && t.Query.Get("forcePathStyle") != "false"
		set.FillIn(getenv)
		return OpenS3(ctx, t, &set)
	case SchemeGCS:
		b, err := OpenGCS(ctx, t, getenv)
		if err != nil {
			return nil, err
		}
		return b.Bucket(), nil
	}
	return OpenAzure(t, AzureFrom(t, getenv))
}

// Target is what was opened.
func (b *Bucket) Target() Target { return b.target }

// Close ends idle connections.
func (b *Bucket) Close() { b.driver.close() }

func (b *Bucket) explain(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrChanged) || errors.Is(err, context.Canceled) {
		return err
	}
	return b.target.Explain(err)
}

// Get opens an object; the caller closes it. What breaks off while it is read
// is an error of the reader.
func (b *Bucket) Get(ctx context.Context, key string) (io.ReadCloser, Object, error) {
	content, o, err := b.driver.get(ctx, key)
	return content, o, b.explain(err)
}

// Stat says what is known of an object.
func (b *Bucket) Stat(ctx context.Context, key string) (Object, error) {
	o, err := b.driver.stat(ctx, key)
	return o, b.explain(err)
}

// Put writes an object, whether there is one or not. content is read from
// where it stands to its end, and again from there if a request has to be
// repeated; it is not closed.
func (b *Bucket) Put(ctx context.Context, key string, content io.ReadSeeker) error {
	return b.explain(b.driver.put(ctx, key, content))
}

// Delete removes an object; one that is gone already is no error.
func (b *Bucket) Delete(ctx context.Context, key string) error { return b.Remove(ctx, key, "") }

// List calls each with all objects whose keys begin with prefix.
func (b *Bucket) List(ctx context.Context, prefix string, each func(Object)) error {
	return b.explain(b.driver.list(ctx, prefix, each))
}

// Read returns a small object, of which it takes at most 64 KiB, and its version.
func (b *Bucket) Read(ctx context.Context, key string) (data []byte, version string, err error) {
	content, o, err := b.driver.get(ctx, key)
	if err == nil {
		data, err = readAll(content)
	}
	return data, o.Version, b.explain(err)
}

// Write writes a small object if its version is still the given one, or, if
// that is empty, if there is none. Otherwise the error is ErrChanged.
func (b *Bucket) Write(ctx context.Context, key string, data []byte, version string) (string, error) {
	version, err := b.driver.swap(ctx, key, data, version)
	return version, b.explain(err)
}

// Remove does the same for deleting; an empty version is any.
func (b *Bucket) Remove(ctx context.Context, key, version string) error {
	err := b.driver.remove(ctx, key, version)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return b.explain(err)
}

// Check does once with an object of its own, whose key begins with prefix, what
// a bucket must allow: write, read, list and delete.
func (b *Bucket) Check(ctx context.Context, prefix string) error {
	key := prefix + "dstack-check-" + rand.Text()
	text := "dstack checks whether it can use this bucket. Delete this if it stays."
	if err := b.Put(ctx, key, strings.NewReader(text)); err != nil {
		return err
	}
	data, _, err := b.Read(ctx, key)
	if err == nil && string(data) != text {
		err = errors.New("it gave back something else than was written")
	}
	if err == nil {
		err = b.List(ctx, key, func(Object) {})
	}
	// Where one may not delete, the first fault is still the one to tell.
	if removed := b.Delete(ctx, key); err == nil {
		err = removed
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("what was written is not there: %v", err) //nolint:errorlint // nobody looks for it
	}
	return b.explain(err)
}
