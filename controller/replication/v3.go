package replication

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/benbjohnson/litestream"
	"github.com/pierrec/lz4/v4"

	"dstack/controller/objects"
)

// old reads what Litestream 0.3 wrote: the library does so itself for S3
// only.
type old struct {
	litestream.ReplicaClient

	bucket storage
	target objects.Target
}

// withV3 is the client as Litestream restores from it: the newer one of a
// replica of 0.3 and one of 0.5 in the same place.
func (r *remote) withV3(t objects.Target) litestream.ReplicaClient {
	if _, can := r.client.(litestream.ReplicaClientV3); can {
		return r.client
	}
	return &old{ReplicaClient: r.client, bucket: r.bucket, target: t}
}

// GenerationsV3 lists the generations.
func (o *old) GenerationsV3(ctx context.Context) ([]string, error) {
	prefix := litestream.GenerationsPathV3(o.target.Path) + "/"
	var ids []string
	err := o.bucket.List(ctx, prefix, func(x objects.Object) {
		id, _, _ := strings.Cut(strings.TrimPrefix(x.Key, prefix), "/")
		if litestream.IsGenerationIDV3(id) {
			ids = append(ids, id)
		}
	})
	slices.Sort(ids)
	return slices.Compact(ids), err
}

// SnapshotsV3 lists the snapshots of a generation.
func (o *old) SnapshotsV3(ctx context.Context, generation string) ([]litestream.SnapshotInfoV3, error) {
	var found []litestream.SnapshotInfoV3
	err := o.bucket.List(ctx, litestream.SnapshotsPathV3(o.target.Path, generation)+"/", func(x objects.Object) {
		if index, err := litestream.ParseSnapshotFilenameV3(path.Base(x.Key)); err == nil {
			found = append(found, litestream.SnapshotInfoV3{Generation: generation, Index: index, Size: x.Size, CreatedAt: x.Changed})
		}
	})
	slices.SortFunc(found, func(a, b litestream.SnapshotInfoV3) int { return cmp.Compare(a.Index, b.Index) })
	return found, err
}

// WALSegmentsV3 lists the pieces of the log of a generation.
func (o *old) WALSegmentsV3(ctx context.Context, generation string) ([]litestream.WALSegmentInfoV3, error) {
	var found []litestream.WALSegmentInfoV3
	err := o.bucket.List(ctx, litestream.WALPathV3(o.target.Path, generation)+"/", func(x objects.Object) {
		if index, offset, err := litestream.ParseWALSegmentFilenameV3(path.Base(x.Key)); err == nil {
			found = append(found, litestream.WALSegmentInfoV3{Generation: generation, Index: index, Offset: offset, Size: x.Size, CreatedAt: x.Changed})
		}
	})
	slices.SortFunc(found, func(a, b litestream.WALSegmentInfoV3) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Offset, b.Offset))
	})
	return found, err
}

// OpenSnapshotV3 reads a snapshot, decompressed.
func (o *old) OpenSnapshotV3(ctx context.Context, generation string, index int) (io.ReadCloser, error) {
	return o.unpacked(ctx, litestream.SnapshotPathV3(o.target.Path, generation, index))
}

// OpenWALSegmentV3 reads a piece of the log, decompressed.
func (o *old) OpenWALSegmentV3(ctx context.Context, generation string, index int, offset int64) (io.ReadCloser, error) {
	return o.unpacked(ctx, litestream.WALSegmentPathV3(o.target.Path, generation, index, offset))
}

func (o *old) unpacked(ctx context.Context, key string) (io.ReadCloser, error) {
	r, _, err := o.bucket.Get(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fs.ErrNotExist // Litestream compares with os.IsNotExist
	}
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{lz4.NewReader(r), r}, nil
}
