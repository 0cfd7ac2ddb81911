package cloudwatch

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"dstack/controller/logs"
)

// maxEmpty is how many pages without events are read before it is believed that
// there are no more; CloudWatch has them now and then.
const maxEmpty = 10

// maxLimit is how many events CloudWatch gives at once.
const maxLimit = 10_000

// firstTime is the smallest token: smaller ones are numbers of events, of pages
// that were on the disk when the reading began.
const firstTime = 1_000_000_000_000

// Poll reads a page. Tokens are times in Unix milliseconds: where the next page
// begins or, descending, before what it ends.
func (g *Group) Poll(ctx context.Context, k logs.Key, opts logs.PollOptions) (logs.Page, error) {
	token, err := logs.ParseToken(opts.Token)
	if err != nil {
		return logs.Page{}, err //nolint:wrapcheck // typed, for the user
	}
	if token >= 0 && token < firstTime {
		return logs.Page{}, &logs.TokenError{Token: opts.Token}
	}
	in := request(g.group, stream(k), opts, token)
	events, err := g.read(ctx, in)
	if absent, ok := errors.AsType[*types.ResourceNotFoundException](err); ok && strings.Contains(absent.ErrorMessage(), "stream") {
		return logs.Page{Remote: true}, nil
	}
	if err != nil {
		return logs.Page{}, g.explain(err)
	}
	if opts.Descending {
		slices.Reverse(events)
	}
	page := logs.Page{Remote: true}
	for _, e := range events {
		ms := aws.ToInt64(e.Timestamp)
		// Not all that has the protocol is exact with the ends.
		if ms >= orElse(in.StartTime, ms) && ms < orElse(in.EndTime, ms+1) {
			page.Events = append(page.Events, logs.Event{At: time.UnixMilli(ms).UTC(), Data: []byte(aws.ToString(e.Message))})
		}
	}
	if len(events) < opts.Limit {
		return page, nil
	}
	next := aws.ToInt64(events[len(events)-1].Timestamp)
	if !opts.Descending {
		next++
	}
	page.Next = strconv.FormatInt(next, 10)
	return page, nil
}

// request asks for the events that opts mean; CloudWatch includes the start and
// excludes the end.
func request(group, stream string, opts logs.PollOptions, token int64) *cloudwatchlogs.GetLogEventsInput {
	in := &cloudwatchlogs.GetLogEventsInput{
		LogGroupName: &group, LogStreamName: &stream, StartFromHead: aws.Bool(!opts.Descending),
		Limit: aws.Int32(int32(min(opts.Limit, maxLimit))),
	}
	if opts.Start != nil {
		in.StartTime = aws.Int64(opts.Start.UnixMilli() + 1)
	}
	if opts.End != nil {
		in.EndTime = aws.Int64(opts.End.UnixMilli())
		if opts.Descending {
			*in.EndTime++
		}
	}
	switch {
	case token < 0:
	case opts.Descending:
		in.EndTime = aws.Int64(min(token, orElse(in.EndTime, token)))
	default:
		in.StartTime = aws.Int64(max(token, orElse(in.StartTime, token)))
	}
	return in
}

func orElse(p *int64, otherwise int64) int64 {
	if p == nil {
		return otherwise
	}
	return *p
}

// read follows pages until there are as many events as asked for, or no more.
// The events are in the order of their times.
func (g *Group) read(ctx context.Context, in *cloudwatchlogs.GetLogEventsInput) ([]types.OutputLogEvent, error) {
	limit := int(*in.Limit)
	if in.StartTime != nil && in.EndTime != nil && *in.StartTime >= *in.EndTime {
		return nil, nil
	}
	var events []types.OutputLogEvent
	for empty := 0; len(events) < limit && empty < maxEmpty; {
		page, err := g.client.GetLogEvents(ctx, in)
		if err != nil {
			return nil, err //nolint:wrapcheck // explained by the caller
		}
		next := page.NextBackwardToken
		if *in.StartFromHead {
			events = append(events, page.Events...)
			next = page.NextForwardToken
		} else {
			events = append(slices.Clone(page.Events), events...)
		}
		if len(page.Events) == 0 {
			empty++
		}
		if next == nil || aws.ToString(in.NextToken) == *next {
			break
		}
		in.NextToken = next
	}
	if len(events) <= limit {
		return events, nil
	}
	if *in.StartFromHead {
		return events[:limit], nil
	}
	return events[len(events)-limit:], nil
}
