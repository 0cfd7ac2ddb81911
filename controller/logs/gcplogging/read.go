package gcplogging

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"dstack/controller/logs"
	"dstack/controller/logs/ship"
)

// firstTime is the smallest token: smaller ones are numbers of events, of pages
// that were on the disk when the reading began.
const firstTime = 1_000_000_000_000_000

// maxPage is how many entries Google gives at once.
const maxPage = 1000

type listRequest struct {
	ResourceNames []string `json:"resourceNames"`
	Filter        string   `json:"filter"`
	OrderBy       string   `json:"orderBy"`
	PageSize      int      `json:"pageSize"`
	PageToken     string   `json:"pageToken,omitempty"`
}

type listAnswer struct {
	Entries       []entry `json:"entries"`
	NextPageToken string  `json:"nextPageToken"`
}

// Poll reads a page. Tokens are times in Unix microseconds: of the first event
// of the next page or, descending, of the last event of this one. Parts of an
// event are never on two pages.
func (l *Log) Poll(ctx context.Context, k logs.Key, opts logs.PollOptions) (logs.Page, error) {
	token, err := logs.ParseToken(opts.Token)
	if err != nil {
		return logs.Page{}, err //nolint:wrapcheck // typed, for the user
	}
	if token >= 0 && token < firstTime {
		return logs.Page{}, &logs.TokenError{Token: opts.Token}
	}
	entries, err := l.entries(ctx, l.request(k, opts, token), opts.Limit)
	if err != nil {
		return logs.Page{}, err
	}
	page := logs.Page{Remote: true}
	for _, e := range entries {
		if e.Timestamp == nil {
			continue
		}
		at := e.Timestamp.UTC()
		last := len(page.Events) - 1
		switch {
		case last >= 0 && page.Events[last].At.Equal(at): // in the order of their insertIds, always
			page.Events[last].Data = append(page.Events[last].Data, e.TextPayload...)
		case len(page.Events) == opts.Limit:
			next := at
			if opts.Descending {
				next = page.Events[last].At
			}
			page.Next = strconv.FormatInt(next.UnixMicro(), 10)
			return page, nil
		default:
			page.Events = append(page.Events, logs.Event{At: at, Data: []byte(e.TextPayload)})
		}
	}
	return page, nil
}

// request asks for the entries that opts mean, in their order.
func (l *Log) request(k logs.Key, opts logs.PollOptions, token int64) listRequest {
	r := listRequest{
		ResourceNames: []string{"projects/" + l.opts.Project}, Filter: l.filter(k), OrderBy: "timestamp asc", PageSize: maxPage,
	}
	and := func(relation string, at time.Time) {
		r.Filter += ` AND timestamp ` + relation + ` "` + at.UTC().Format(time.RFC3339Nano) + `"`
	}
	if opts.Descending {
		r.OrderBy = "timestamp desc"
	}
	if opts.Start != nil {
		and(">", *opts.Start)
	}
	switch {
	case opts.End != nil && opts.Descending:
		and("<=", *opts.End)
	case opts.End != nil:
		and("<", *opts.End)
	}
	switch {
	case token < 0:
	case opts.Descending:
		and("<", time.UnixMicro(token))
	default:
		and(">=", time.UnixMicro(token))
	}
	return r
}

// entries reads until there are those of one event more than limit, or no more.
func (l *Log) entries(ctx context.Context, r listRequest, limit int) ([]entry, error) {
	var all []entry
	times := 0
	for {
		var answer listAnswer
		if err := l.list(ctx, r, &answer); err != nil {
			return nil, err
		}
		for _, e := range answer.Entries {
			if e.Timestamp != nil && (len(all) == 0 || !all[len(all)-1].Timestamp.Equal(*e.Timestamp)) {
				times++
			}
			if e.Timestamp != nil {
				all = append(all, e)
			}
		}
		if r.PageToken = answer.NextPageToken; r.PageToken == "" || times > limit {
			return all, nil
		}
	}
}

// list asks for entries; Google allows it 60 times a minute.
func (l *Log) list(ctx context.Context, r listRequest, out *listAnswer) error {
	err := l.call(ctx, "/v2/entries:list", r, out)
	if e, ok := errors.AsType[*apiError](err); ok && e.status == http.StatusTooManyRequests {
		return &ship.UnreachableError{Err: l.fault("GCP Logging read request limit exceeded", "try again in a minute, or ask Google for a higher quota")}
	}
	return err
}
