package objectlog

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"math"
	"path"
	"slices"
	"sort"
	"strconv"

	"dstack/controller/logs"
	"dstack/controller/objects"
)

// maxPage is how many bytes a page has at most, one event more at the end.
const maxPage = 1 << 20

// piece is one object of a log.
type piece struct {
	logs.Mark
	key string
}

// reading reads one log.
type reading struct {
	bucket Bucket
	ctx    context.Context //nolint:containedctx // of one Poll
	pieces []piece
	// loaded are the events of the piece that was read last.
	loaded int
	events []logs.Event
	err    error
}

// Poll reads a page. Tokens are numbers of events, as on the disk.
func (s *Storage) Poll(ctx context.Context, k logs.Key, opts logs.PollOptions) (logs.Page, error) {
	token, err := logs.ParseToken(opts.Token)
	if err != nil {
		return logs.Page{}, err //nolint:wrapcheck // typed, for the user
	}
	bucket, err := s.bucket(ctx)
	if err != nil {
		return logs.Page{}, err
	}
	r := &reading{bucket: bucket, ctx: ctx, loaded: -1}
	folder := s.folder(k)
	err = bucket.List(ctx, folder, func(o objects.Object) {
		if m, ok := parse(path.Base(o.Key)); ok {
			r.pieces = append(r.pieces, piece{m, o.Key})
		}
	})
	if err != nil {
		return logs.Page{}, err //nolint:wrapcheck // a sentence with the URL
	}
	slices.SortFunc(r.pieces, func(a, b piece) int { return cmp.Compare(a.Event, b.Event) })
	events := r.up(opts, token)
	if opts.Descending {
		events = r.down(opts, token)
	}
	page := logs.Page{Remote: true}
	size, last := 0, int64(0)
	for n, e := range events {
		if len(page.Events) == opts.Limit || size >= maxPage {
			if page.Next = strconv.FormatInt(n, 10); opts.Descending {
				page.Next = strconv.FormatInt(last, 10)
			}
			break
		}
		page.Events = append(page.Events, e)
		size += len(e.Data)
		last = n
	}
	if r.err != nil {
		return logs.Page{}, r.err
	}
	return page, nil
}

// up are the events that are asked for with their numbers, from a number on.
func (r *reading) up(opts logs.PollOptions, from int64) iter.Seq2[int64, logs.Event] {
	return func(yield func(int64, logs.Event) bool) {
		i := max(0, sort.Search(len(r.pieces), func(i int) bool { return r.pieces[i].Event > from })-1)
		if opts.Start != nil {
			i = max(i, r.first(func(e logs.Event) bool { return e.At.After(*opts.Start) })-1)
		}
		for ; i < len(r.pieces); i++ {
			for j, e := range r.load(i) {
				n := r.pieces[i].Event + int64(j)
				if n < from || opts.Start != nil && !e.At.After(*opts.Start) {
					continue
				}
				if opts.End != nil && !e.At.Before(*opts.End) || !yield(n, e) {
					return
				}
			}
		}
	}
}

// down are the events before a number, the last one first.
func (r *reading) down(opts logs.PollOptions, before int64) iter.Seq2[int64, logs.Event] {
	if before < 0 {
		before = math.MaxInt64
	}
	return func(yield func(int64, logs.Event) bool) {
		i := sort.Search(len(r.pieces), func(i int) bool { return r.pieces[i].Event >= before }) - 1
		if opts.End != nil {
			i = min(i, r.first(func(e logs.Event) bool { return e.At.After(*opts.End) })-1)
		}
		for ; i >= 0; i-- {
			for j, e := range slices.Backward(r.load(i)) {
				n := r.pieces[i].Event + int64(j)
				if n >= before || opts.End != nil && e.At.After(*opts.End) {
					continue
				}
				if opts.Start != nil && !e.At.After(*opts.Start) || !yield(n, e) {
					return
				}
			}
		}
	}
}

// first is the first piece whose first event satisfies from.
func (r *reading) first(from func(logs.Event) bool) int {
	return sort.Search(len(r.pieces), func(i int) bool {
		events := r.load(i)
		return len(events) == 0 || from(events[0])
	})
}

// load reads the events of a piece, none after an error. Where two pieces
// overlap, since a log was sent again from another place, the later one counts.
func (r *reading) load(i int) []logs.Event {
	if r.err != nil {
		return nil
	}
	if r.loaded == i {
		return r.events
	}
	content, _, err := r.bucket.Get(r.ctx, r.pieces[i].key)
	if err != nil {
		r.err = err
		return nil
	}
	events, err := decode(content, r.pieces[i].Offset)
	if r.err = errors.Join(err, content.Close()); r.err != nil {
		return nil
	}
	if i+1 < len(r.pieces) {
		events = events[:min(int64(len(events)), r.pieces[i+1].Event-r.pieces[i].Event)]
	}
	r.loaded, r.events = i, events
	return events
}
