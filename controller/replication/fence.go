package replication

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// errKeep is the answer to a request to delete a whole replica.
var errKeep = errors.New("a server does not delete a replica")

// fenced writes to the replica only while the lease is valid, and breaks off
// what is under way when it ends.
type fenced struct {
	litestream.ReplicaClient

	keeper *keeper
	marks  *marker
}

// WriteLTXFile uploads a file.
func (f *fenced) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	ctx, done := f.keeper.while(ctx)
	defer done()
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("write to replica: %w", err)
	}
	if err := f.marks.note(ctx); err != nil {
		return nil, err
	}
	return f.ReplicaClient.WriteLTXFile(ctx, level, minTXID, maxTXID, r)
}

// DeleteLTXFiles deletes files that others replace.
func (f *fenced) DeleteLTXFiles(ctx context.Context, a []*ltx.FileInfo) error {
	ctx, done := f.keeper.while(ctx)
	defer done()
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("delete from replica: %w", err)
	}
	return f.ReplicaClient.DeleteLTXFiles(ctx, a)
}

// DeleteAll is never wanted.
func (f *fenced) DeleteAll(context.Context) error {
	return errKeep
}
