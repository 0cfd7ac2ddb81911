package logs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"strconv"
	"time"
)

// maxPage is how many bytes a page holds at most, one event more at the end.
const maxPage = 1 << 20

// PollOptions selects events (spec: rest-api.md 11.1).
type PollOptions struct {
	// Start, if set, is exclusive.
	Start *time.Time
	// End, if set, is exclusive in ascending and inclusive in descending order.
	End        *time.Time
	Descending bool
	// Token continues after the page that gave it; empty begins.
	Token string
	// Limit is how many events a page has at most; 0 gives none.
	Limit int
}

// Event is a piece of a log. Pieces end between UTF-8 sequences wherever the
// log allows it. At has microseconds and differs for each event of a log.
type Event struct {
	At     time.Time
	Offset int64
	Data   []byte
}

// Page is what Poll returns. An empty Next means that there is no more now.
type Page struct {
	Events []Event
	Next   string
	// Remote says that the page is not from the disk.
	Remote bool
}

// TokenError says that a page token is not one that Poll gave, in the words
// of 0.22.5.
type TokenError struct{ Token string }

func (e *TokenError) Error() string {
	return "Invalid next_token: " + e.Token + ". Must be a non-negative integer."
}

// Is makes it an [ErrBadToken].
func (*TokenError) Is(target error) bool { return target == ErrBadToken }

// ParseToken reads a page token, -1 for an empty one. It fails with a
// [TokenError]. One beyond all numbers is beyond the end of every log.
func ParseToken(token string) (int64, error) {
	if token == "" {
		return -1, nil
	}
	n, err := strconv.ParseInt(token, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || n < 0 {
		return 0, &TokenError{token}
	}
	return n, nil
}

// Poll reads one page. A log that does not exist is empty. It fails with a
// [TokenError] or [ErrBadKey] when the caller's input is to blame.
func (s *Store) Poll(ctx context.Context, k Key, opts PollOptions) (Page, error) {
	if err := ctx.Err(); err != nil {
		return Page{}, context.Cause(ctx)
	}
	token, err := ParseToken(opts.Token)
	if err != nil {
		return Page{}, err
	}
	if opts.Limit <= 0 {
		return Page{}, k.valid()
	}
	var page Page
	err = s.use(k, false, func(f *file) error {
		page, err = s.pollFile(ctx, k, f, opts, token)
		if errors.Is(err, ErrRemoved) { // just now: the second time it is known
			page, err = s.pollFile(ctx, k, f, opts, token)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return s.pollRemote(ctx, k, opts)
	}
	return page, err
}

func (s *Store) pollFile(ctx context.Context, k Key, f *file, opts PollOptions, token int64) (Page, error) {
	from, next, err := f.page(s.now(), opts, token, s.opts.Remote != nil)
	if err != nil {
		return Page{}, err
	}
	page := Page{Next: next, Remote: from.remote}
	if from.remote {
		page.Events, err = s.fetch(ctx, k, from.recs)
	} else {
		page.Events, err = f.events(from.recs)
	}
	if opts.Descending {
		slices.Reverse(page.Events)
	}
	return page, err
}

// span are consecutive records with the one in front of them; empty: none.
// Their bytes are either all on the disk or all not.
type span struct {
	recs   []record
	remote bool
}

// page chooses the records of a page. What was removed from the disk is left
// out, unless somebody else has it.
func (f *file) page(now time.Time, opts PollOptions, token int64, elsewhere bool) (span, string, error) {
	count, err := f.readable(now)
	if err != nil {
		return span{}, "", err
	}
	lo, hi, err := f.bounds(count, opts)
	if err != nil {
		return span{}, "", err
	}
	kept := f.keptFrom().Event
	if !elsewhere {
		lo = max(lo, kept)
		hi = max(lo, hi)
	}
	if opts.Descending {
		return f.down(lo, hi, token, kept, opts.Limit)
	}
	return f.up(lo, hi, token, kept, opts.Limit)
}

// Events is how many events of a log Poll knows now; 0 if there is no log.
// Pages of events change only when this number does.
func (s *Store) Events(k Key) (int64, error) {
	var n int64
	err := s.use(k, false, func(f *file) error {
		var err error
		n, err = f.readable(s.now())
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return n, err
}

// readable is how many records there are. Records never change, so the caller
// reads them without the lock.
func (f *file) readable(now time.Time) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last.end < f.size && now.Sub(f.written) >= holdPartial {
		if err := f.cover(f.written, true); err != nil {
			return 0, err
		}
	}
	return f.count, nil
}

// bounds finds the records [lo, hi) that the times allow.
func (f *file) bounds(count int64, opts PollOptions) (lo, hi int64, err error) {
	lo, hi = 0, count
	if opts.Start != nil {
		if lo, err = f.search(count, func(r record) bool { return r.micros > opts.Start.UnixMicro() }); err != nil {
			return 0, 0, err
		}
	}
	if opts.End == nil {
		return lo, hi, nil
	}
	end := opts.End.UnixMicro()
	hi, err = f.search(count, func(r record) bool { return r.micros > end || r.micros == end && !opts.Descending })
	return lo, max(lo, hi), err
}

// search finds the first record that satisfies from.
func (f *file) search(count int64, from func(record) bool) (int64, error) {
	var failed error
	i := sort.Search(int(count), func(i int) bool {
		rec, err := f.record(int64(i))
		failed = errors.Join(failed, err)
		return from(rec)
	})
	return int64(i), failed
}

// record reads record i; -1 is the empty one in front of the first.
func (f *file) record(i int64) (record, error) {
	recs, err := f.records(i, i+1)
	if err != nil {
		return record{}, err
	}
	return recs[0], nil
}

// records reads the records [from, to) at once; from may be -1.
func (f *file) records(from, to int64) ([]record, error) {
	recs := make([]record, 0, to-from)
	if from < 0 {
		recs = append(recs, record{})
		from = 0
	}
	buf := make([]byte, (to-from)*recordSize)
	if _, err := f.index.ReadAt(buf, from*recordSize); err != nil {
		return nil, fmt.Errorf("read log index: %w", err)
	}
	for ; len(buf) > 0; buf = buf[recordSize:] {
		rec, ok := parseRecord(buf)
		if !ok {
			return nil, fmt.Errorf("log index is damaged at record %d", to-int64(len(buf)/recordSize))
		}
		recs = append(recs, rec)
	}
	return recs, nil
}

// up reads records from lo, or from token if that is later. A token is the
// number of the first record of the next page.
func (f *file) up(lo, hi, token, kept int64, limit int) (span, string, error) {
	lo = max(lo, token)
	if lo >= hi {
		return span{}, "", nil
	}
	stop := min(hi, lo+int64(limit))
	if lo < kept {
		stop = min(stop, kept)
	}
	// The record in front says where the first event begins.
	recs, err := f.records(lo-1, stop)
	if err != nil {
		return span{}, "", err
	}
	n := 1
	for n+1 < len(recs) && recs[n].end-recs[0].end < maxPage {
		n++
	}
	return span{recs[:n+1], lo < kept}, tokenIf(lo+int64(n), lo+int64(n) < hi), nil
}

// tokenIf is a token for the record number n if there is a next page.
func tokenIf(n int64, more bool) string {
	if !more {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// down reads records backwards from hi, or from token if that is earlier. A
// token is the number of the last record of its page.
func (f *file) down(lo, hi, token, kept int64, limit int) (span, string, error) {
	if token >= 0 {
		hi = min(hi, token)
	}
	if lo >= hi {
		return span{}, "", nil
	}
	first := max(lo, hi-int64(limit))
	if hi > kept {
		first = max(first, kept)
	}
	recs, err := f.records(first-1, hi)
	if err != nil {
		return span{}, "", err
	}
	last := recs[len(recs)-1]
	i := len(recs) - 2
	for i > 0 && last.end-recs[i].end < maxPage {
		i--
	}
	first += int64(i)
	return span{recs[i:], hi <= kept}, tokenIf(first, first > lo), nil
}

// events reads the bytes between consecutive records at once.
func (f *file) events(recs []record) ([]Event, error) {
	if len(recs) == 0 {
		return nil, nil
	}
	first := recs[0].end
	buf := make([]byte, recs[len(recs)-1].end-first)
	if err := f.read(buf, first); err != nil {
		return nil, err
	}
	events := make([]Event, 0, len(recs)-1)
	for i, rec := range recs[1:] {
		start := recs[i].end
		events = append(events, Event{
			At: time.UnixMicro(rec.micros).UTC(), Offset: start, Data: buf[start-first : rec.end-first : rec.end-first],
		})
	}
	return events, nil
}
