package replication

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/benbjohnson/litestream"
	litestreams3 "github.com/benbjohnson/litestream/s3"

	"dstack/controller/objects"
)

// leaser takes, renews and releases the lease of a replica. The object and
// its form are those of Litestream's leaser for S3, so that Litestream and we
// respect each other. Ours works on all storages, and knows its own lease again
// when the answer to a write was lost, which a storage reports as "changed".
type leaser struct {
	target objects.Target
	bucket storage
	owner  string // no other process ever has it
	ttl    time.Duration
	now    func() time.Time
}

func (l *leaser) key() string { return l.target.Key(litestreams3.DefaultLeasePath) }

// acquire takes the lease if nobody has it; else the error is a [HeldError].
func (l *leaser) acquire(ctx context.Context) (*litestream.Lease, error) {
	for {
		held, err := l.read(ctx)
		if err != nil {
			return nil, err
		}
		if held.Owner != l.owner && l.now().Before(held.ExpiresAt) {
			return nil, &HeldError{Target: l.target, Owner: held.Owner, Until: held.ExpiresAt}
		}
		lease, err := l.write(ctx, held.Generation+1, held.ETag)
		if err == nil {
			err = l.probe(ctx)
		}
		if !errors.Is(err, objects.ErrChanged) {
			return lease, err
		}
		// Somebody was quicker, or this was our own write whose answer was lost.
		if err := context.Cause(ctx); err != nil {
			return nil, fmt.Errorf("take lease: %w", err)
		}
	}
}

// probe refuses a storage with the protocol of S3 that ignores conditions:
// there every server would get the lease.
func (l *leaser) probe(ctx context.Context) error {
	if l.target.Scheme != objects.SchemeS3 {
		return nil
	}
	for _, wrong := range []string{"", `"0"`} { // there is none; there is another one
		if _, err := l.write(ctx, 0, wrong); err == nil {
			_ = l.bucket.Remove(ctx, l.key(), "") // it ends by itself, too
			return l.target.Fault("the storage ignores the conditions If-Match and If-None-Match, so that a lease can't keep another server away", "use another storage", nil)
		}
	}
	return nil
}

// renew prolongs the lease; the error is a [LostError] if another server has
// it. Any other error leaves that open.
func (l *leaser) renew(ctx context.Context, lease *litestream.Lease) (*litestream.Lease, error) {
	next, err := l.write(ctx, lease.Generation, lease.ETag)
	if !errors.Is(err, objects.ErrChanged) {
		return next, err
	}
	held, err := l.read(ctx)
	if err != nil {
		return nil, err
	}
	// Where there is none, another server may have come and gone, unless ours
	// was still alive.
	if held.Owner != l.owner && (held.ETag != "" || l.left(lease) <= 0) {
		return nil, &LostError{Target: l.target, Owner: held.Owner}
	}
	// Our own write whose answer was lost, or somebody deleted the object.
	next, err = l.write(ctx, lease.Generation, held.ETag)
	if errors.Is(err, objects.ErrChanged) {
		return nil, &LostError{Target: l.target}
	}
	return next, err
}

// left is how long an own lease lives. Of two clocks the one counts that says
// less: the one on the wall, which goes on while the machine is suspended, and
// the other one, which nobody sets back.
func (l *leaser) left(lease *litestream.Lease) time.Duration {
	now := l.now()
	return min(lease.ExpiresAt.Sub(now), lease.ExpiresAt.Round(0).Sub(now.Round(0)))
}

// release gives the lease back, if it is still ours.
func (l *leaser) release(ctx context.Context, lease *litestream.Lease) error {
	err := l.bucket.Remove(ctx, l.key(), lease.ETag)
	if err == nil || errors.Is(err, objects.ErrChanged) {
		return nil
	}
	return fmt.Errorf("release lease: %w", err)
}

// read returns the lease as it is stored; one without ETag if there is none.
func (l *leaser) read(ctx context.Context) (*litestream.Lease, error) {
	data, version, err := l.bucket.Read(ctx, l.key())
	if errors.Is(err, fs.ErrNotExist) {
		return &litestream.Lease{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read lease: %w", err)
	}
	var lease litestream.Lease
	if err := json.Unmarshal(data, &lease); err != nil {
		return nil, l.target.Fault("the object "+l.key()+" is no lease", "delete it if no server runs", err)
	}
	lease.ETag = version
	return &lease, nil
}

// write stores the lease, prolonged from before the request was sent.
func (l *leaser) write(ctx context.Context, generation int64, version string) (*litestream.Lease, error) {
	lease := &litestream.Lease{Generation: generation, ExpiresAt: l.now().Add(l.ttl), Owner: l.owner}
	data, err := json.Marshal(lease)
	if err != nil {
		return nil, fmt.Errorf("encode lease: %w", err)
	}
	lease.ETag, err = l.bucket.Write(ctx, l.key(), data, version)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", objects.ErrChanged, err) // the version was of an object that is gone
	}
	if err != nil {
		return nil, fmt.Errorf("write lease: %w", err)
	}
	return lease, nil
}
