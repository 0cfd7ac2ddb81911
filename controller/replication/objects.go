package replication

import (
	"context"
	"errors"
	"io"
	"path"
	"time"

	"github.com/benbjohnson/litestream"
)

// errChanged means that an object is not the version that it was taken for.
var errChanged = errors.New("the object was changed")

// object is one entry of a list.
type object struct {
	key     string
	size    int64
	changed time.Time
}

// objects is an object storage as leases need it, and old replicas. Keys are
// whole: they hold the path of the replica.
type objects interface {
	// get returns a small object and its version; [fs.ErrNotExist] if there is none.
	get(ctx context.Context, key string) (data []byte, version string, err error)
	// put writes a small object if its version is still the given one, or, if
	// that is empty, if there is none. Otherwise the error is errChanged.
	put(ctx context.Context, key string, data []byte, version string) (string, error)
	// remove does the same for deleting; what is gone already is no error.
	remove(ctx context.Context, key, version string) error
	// list calls each with all objects below a prefix.
	list(ctx context.Context, prefix string, each func(object)) error
	// open reads an object.
	open(ctx context.Context, key string) (io.ReadCloser, error)
	// close ends idle connections.
	close()
}

// remote is an open target.
type remote struct {
	objects objects
	client  litestream.ReplicaClient
}

// connect opens a target with the credentials of the environment. Nothing is
// asked of the storage yet, except in which region a bucket of AWS is.
func connect(ctx context.Context, t Target, getenv func(string) string) (*remote, error) {
	switch t.Scheme {
	case schemeS3:
		return connectS3(ctx, t, getenv)
	case schemeGCS:
		return connectGCS(ctx, t, getenv)
	}
	return connectAzure(t, getenv)
}

// key is the name of one of the replica's objects.
func (t Target) key(name string) string { return path.Join(t.Path, name) }
