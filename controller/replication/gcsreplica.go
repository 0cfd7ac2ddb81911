package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"dstack/controller/objects"
)

// gcsTimestamp is under which name Litestream keeps the time of a file.
const gcsTimestamp = "litestream-timestamp"

// gcsReplica stores a replica as Litestream's own client for Google Cloud
// Storage does: the same names and metadata.
type gcsReplica struct {
	*objects.GCS

	path string
}

// Type names the kind of the storage.
func (c *gcsReplica) Type() string { return "gs" }

// Init has nothing to do.
func (c *gcsReplica) Init(context.Context) error { return nil }

// SetLogger is not needed: nothing is logged.
func (c *gcsReplica) SetLogger(*slog.Logger) {}

// DeleteAll is never wanted.
func (c *gcsReplica) DeleteAll(context.Context) error { return errKeep }

// LTXFiles lists the files of a level from a transaction on.
func (c *gcsReplica) LTXFiles(ctx context.Context, level int, seek ltx.TXID, _ bool) (ltx.FileIterator, error) {
	prefix, start := litestream.LTXLevelDir(c.path, level)+"/", ""
	if seek != 0 {
		start = prefix + seek.String()
	}
	var found []*ltx.FileInfo
	err := c.Resources(ctx, prefix, start, func(r objects.Resource) {
		from, to, err := ltx.ParseFilename(path.Base(r.Name))
		if err != nil {
			return // not one of these
		}
		made := r.Created.UTC()
		if at, err := time.Parse(time.RFC3339Nano, r.Metadata[gcsTimestamp]); err == nil {
			made = at
		}
		found = append(found, &ltx.FileInfo{Level: level, MinTXID: from, MaxTXID: to, Size: r.Size, CreatedAt: made})
	})
	if err != nil {
		return nil, err
	}
	return ltx.NewFileInfoSliceIterator(found), nil
}

// OpenLTXFile reads a file, or a part of it if size is not 0.
func (c *gcsReplica) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	response, err := c.Range(ctx, litestream.LTXFilePath(c.path, level, minTXID, maxTXID), offset, size)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fs.ErrNotExist // as Litestream looks for it
	}
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

// WriteLTXFile uploads a file in one request of two parts: what it is, and its
// content.
func (c *gcsReplica) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	head, content, err := ltx.PeekHeader(r)
	if err != nil {
		return nil, fmt.Errorf("read header of changes: %w", err)
	}
	made := time.UnixMilli(head.Timestamp).UTC()
	key := litestream.LTXFilePath(c.path, level, minTXID, maxTXID)
	counted := &counter{Reader: content}
	if err := c.Upload(ctx, key, map[string]string{gcsTimestamp: made.Format(time.RFC3339Nano)}, counted); err != nil {
		return nil, err
	}
	return &ltx.FileInfo{Level: level, MinTXID: minTXID, MaxTXID: maxTXID, Size: counted.n, CreatedAt: made}, nil
}

// counter counts what is read.
type counter struct {
	io.Reader

	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

// DeleteLTXFiles deletes files; those that are gone already are no error.
func (c *gcsReplica) DeleteLTXFiles(ctx context.Context, a []*ltx.FileInfo) error {
	for _, f := range a {
		if err := c.Delete(ctx, litestream.LTXFilePath(c.path, f.Level, f.MinTXID, f.MaxTXID)); err != nil {
			return err
		}
	}
	return nil
}
