package logs

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"
)

// Remote reads logs where they were shipped to.
type Remote interface {
	// Poll reads a page, as [Store.Poll] does. Its tokens are numbers that are
	// no smaller than 0. What it does not have is empty.
	Poll(ctx context.Context, k Key, opts PollOptions) (Page, error)
}

// pollRemote reads a page of a log that is not on the disk: it was removed
// there, or there never was one.
func (s *Store) pollRemote(ctx context.Context, k Key, opts PollOptions) (Page, error) {
	if s.opts.Remote == nil {
		return Page{}, nil
	}
	if ended, err := s.ended(ctx, k); err != nil || !ended {
		return Page{}, err
	}
	page, err := s.opts.Remote.Poll(ctx, k, opts)
	page.Remote = true
	if err != nil {
		return page, fmt.Errorf("read log where it was shipped to: %w", err)
	}
	return page, nil
}

func (s *Store) ended(ctx context.Context, k Key) (bool, error) {
	if s.opts.Ended == nil {
		return false, nil
	}
	return s.opts.Ended(ctx, strings.TrimSuffix(k.JobID, agentSuffix))
}

// fetch reads the events that consecutive records are about from the remote
// storage, by their times.
func (s *Store) fetch(ctx context.Context, k Key, recs []record) ([]Event, error) {
	end := time.UnixMicro(recs[len(recs)-1].following())
	opts := PollOptions{End: &end, Limit: len(recs)}
	if recs[0].end > 0 {
		start := time.UnixMicro(recs[0].micros)
		opts.Start = &start
	}
	var events []Event
	for {
		page, err := s.opts.Remote.Poll(ctx, k, opts)
		if err != nil {
			return nil, fmt.Errorf("read log where it was shipped to: %w", err)
		}
		events = append(events, page.Events...)
		if opts.Token = page.Next; opts.Token == "" {
			break
		}
	}
	place(events, recs)
	return events, nil
}

// place gives events from elsewhere their places in the log: those of their
// records if each has one, else one behind the other.
func place(events []Event, recs []record) {
	offset := recs[0].end
	for i := range events {
		if len(events) == len(recs)-1 {
			events[i].At = time.UnixMicro(recs[i+1].micros).UTC()
			events[i].Offset = recs[i].end
			continue
		}
		events[i].Offset = offset
		offset += int64(len(events[i].Data))
	}
}

// Nowhere is what Kept gives for a log that is not on the disk, but may be
// elsewhere.
const Nowhere = int64(math.MaxInt64)

// Kept is the offset of the first byte of a log that is still on the disk: 0
// if it is whole, or not there yet. Nobody has what is before that if the
// store has no Remote.
func (s *Store) Kept(ctx context.Context, k Key) (int64, error) {
	var kept int64
	err := s.use(k, false, func(f *file) error {
		kept = f.keptFrom().Offset
		return nil
	})
	if !isNotExist(err) {
		return kept, err
	}
	ended, err := s.ended(ctx, k)
	if err != nil || !ended || s.opts.Remote == nil {
		return 0, err
	}
	return Nowhere, nil
}
