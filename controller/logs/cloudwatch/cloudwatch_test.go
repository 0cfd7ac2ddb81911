package cloudwatch

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/smithy-go"
	"github.com/rs/zerolog"

	"dstack/controller/logs"
	"dstack/controller/logs/ship"
)

var key = logs.Key{Project: "main", Run: "train", JobID: "0a7945ef"}

func at(ms int) time.Time { return time.UnixMilli(1_700_000_000_000 + int64(ms)).UTC() }

// double is CloudWatch as its documentation has it: it gives at most perPage
// events at once, and an empty page before each that has some.
type double struct {
	streams  map[string][]types.OutputLogEvent
	perPage  int
	rejected *types.RejectedLogEventsInfo
	err      error
	puts     int
}

func (d *double) DescribeLogStreams(context.Context, *cloudwatchlogs.DescribeLogStreamsInput, ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.DescribeLogStreamsOutput, error) {
	return &cloudwatchlogs.DescribeLogStreamsOutput{}, d.err
}

func (d *double) CreateLogStream(_ context.Context, in *cloudwatchlogs.CreateLogStreamInput, _ ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.CreateLogStreamOutput, error) {
	if _, ok := d.streams[*in.LogStreamName]; ok {
		return nil, &types.ResourceAlreadyExistsException{}
	}
	d.streams[*in.LogStreamName] = nil
	return &cloudwatchlogs.CreateLogStreamOutput{}, d.err
}

func (d *double) PutLogEvents(_ context.Context, in *cloudwatchlogs.PutLogEventsInput, _ ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.PutLogEventsOutput, error) {
	d.puts++
	size := 0
	for i, e := range in.LogEvents {
		size += len(*e.Message) + 26
		if i > 0 && *e.Timestamp <= *in.LogEvents[i-1].Timestamp || len(*e.Message) == 0 {
			return nil, errors.New("not in order, or empty")
		}
		d.streams[*in.LogStreamName] = append(d.streams[*in.LogStreamName], types.OutputLogEvent{Message: e.Message, Timestamp: e.Timestamp})
	}
	if size > 1<<20 || len(in.LogEvents) > 10_000 || *in.LogEvents[len(in.LogEvents)-1].Timestamp-*in.LogEvents[0].Timestamp > 24*3600*1000 {
		return nil, errors.New("the batch is too large")
	}
	return &cloudwatchlogs.PutLogEventsOutput{RejectedLogEventsInfo: d.rejected}, d.err
}

func (d *double) GetLogEvents(_ context.Context, in *cloudwatchlogs.GetLogEventsInput, _ ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.GetLogEventsOutput, error) {
	all, ok := d.streams[*in.LogStreamName]
	if !ok {
		return nil, &types.ResourceNotFoundException{Message: aws.String("The specified log stream does not exist.")}
	}
	var events []types.OutputLogEvent
	for _, e := range all {
		if (in.StartTime == nil || *e.Timestamp >= *in.StartTime) && (in.EndTime == nil || *e.Timestamp < *in.EndTime) {
			events = append(events, e)
		}
	}
	// A token counts events from the side where reading begins; an odd half is an
	// empty page.
	half := 0
	if in.NextToken != nil {
		fmt.Sscan(*in.NextToken, &half)
	}
	from := half / 2
	n := min(d.perPage, int(*in.Limit), len(events)-from)
	if half%2 == 0 && n > 0 {
		n = 0
		half++
	} else if n > 0 {
		half += 2*n - 1
	}
	page := events[from : from+n]
	if !*in.StartFromHead {
		page = events[len(events)-from-n : len(events)-from]
	}
	token := fmt.Sprint(half)
	return &cloudwatchlogs.GetLogEventsOutput{Events: page, NextForwardToken: &token, NextBackwardToken: &token}, d.err
}

func group(d *double) *Group {
	d.streams = map[string][]types.OutputLogEvent{}
	d.perPage = cmp.Or(d.perPage, 3)
	return &Group{client: d, group: "g", region: "eu-west-1", log: zerolog.Nop()}
}

func events(n int) []logs.Event {
	var out []logs.Event
	for i := range n {
		out = append(out, logs.Event{At: at(10 * i), Data: []byte(fmt.Sprint(i, " "))})
	}
	return out
}

// put sends a batch until all of it is taken.
func put(t *testing.T, g *Group, resumed bool, events []logs.Event) {
	t.Helper()
	for len(events) > 0 {
		n, err := g.Put(t.Context(), ship.Batch{Key: key, Resumed: resumed, Batch: logs.Batch{Events: events}})
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			t.Fatal("nothing is taken")
		}
		events, resumed = events[n:], false
	}
}

func read(t *testing.T, g *Group, opts logs.PollOptions) string {
	t.Helper()
	var text strings.Builder
	for {
		page, err := g.Poll(t.Context(), key, opts)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Events) > opts.Limit || !page.Remote {
			t.Fatalf("%d events of %d", len(page.Events), opts.Limit)
		}
		for _, e := range page.Events {
			text.Write(e.Data)
		}
		if opts.Token = page.Next; opts.Token == "" {
			return strings.TrimSpace(text.String())
		}
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	g := group(&double{})
	put(t, g, true, events(10))
	ptr := func(ms int) *time.Time { t := at(ms); return &t }
	micro := at(30).Add(500 * time.Microsecond)
	for name, tt := range map[string]struct {
		opts logs.PollOptions
		want string
	}{
		"all":                      {logs.PollOptions{}, "0 1 2 3 4 5 6 7 8 9"},
		"descending":               {logs.PollOptions{Descending: true}, "9 8 7 6 5 4 3 2 1 0"},
		"start is excluded":        {logs.PollOptions{Start: ptr(30)}, "4 5 6 7 8 9"},
		"of microseconds, too":     {logs.PollOptions{Start: &micro}, "4 5 6 7 8 9"},
		"end is excluded":          {logs.PollOptions{End: ptr(30)}, "0 1 2"},
		"end is included":          {logs.PollOptions{End: ptr(30), Descending: true}, "3 2 1 0"},
		"start, descending":        {logs.PollOptions{Start: ptr(30), Descending: true}, "9 8 7 6 5 4"},
		"between":                  {logs.PollOptions{Start: ptr(30), End: ptr(70)}, "4 5 6"},
		"nothing between":          {logs.PollOptions{Start: ptr(30), End: ptr(30)}, ""},
		"nothing after":            {logs.PollOptions{Start: ptr(3000)}, ""},
		"nothing before":           {logs.PollOptions{End: ptr(-1)}, ""},
		"nothing before, backward": {logs.PollOptions{End: ptr(-1), Descending: true}, ""},
	} {
		for _, limit := range []int{1, 2, 4, 5, 100} {
			tt.opts.Limit = limit
			if got := read(t, g, tt.opts); got != tt.want {
				t.Errorf("%s, limit %d: %q, want %q", name, limit, got, tt.want)
			}
		}
	}
	other := key
	other.JobID += "-agent"
	if page, err := g.Poll(t.Context(), other, logs.PollOptions{Limit: 1}); err != nil || len(page.Events) > 0 {
		t.Errorf("no stream: %v, %v", page, err)
	}
	for _, token := range []string{"x", "-1", "12"} {
		if _, err := g.Poll(t.Context(), key, logs.PollOptions{Limit: 1, Token: token}); !errors.Is(err, logs.ErrBadToken) {
			t.Errorf("token %s: %v", token, err)
		}
	}
}

// TestResumed: what is there already is not sent again.
func TestResumed(t *testing.T) {
	t.Parallel()
	d := &double{}
	g := group(d)
	put(t, g, true, events(5))
	put(t, g, true, events(10))
	put(t, g, true, events(10))
	if got := read(t, g, logs.PollOptions{Limit: 100}); got != "0 1 2 3 4 5 6 7 8 9" || d.puts != 2 {
		t.Errorf("%q in %d", got, d.puts)
	}
	if got := slices.Collect(func(yield func(string) bool) {
		for name := range d.streams {
			yield(name)
		}
	}); fmt.Sprint(got) != "[main/train/0a7945ef/job]" {
		t.Errorf("streams %q", got)
	}
	if got, want := g.URL(key.Diagnostics()), "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1#logsV2:log-groups/log-group/g/log-events/main$252Ftrain$252F0a7945ef$252Frunner"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestBatches: the limits of a call hold, for any events.
func TestBatches(t *testing.T) {
	t.Parallel()
	large := make([]logs.Event, 40)
	for i := range large {
		large[i] = logs.Event{At: at(i), Data: bytes.Repeat([]byte{'a', 0xff}, 32<<10)} // no UTF-8: twice as much
	}
	small := make([]logs.Event, 10_001)
	for i := range small {
		small[i] = logs.Event{At: at(i), Data: []byte("x")}
	}
	days := make([]logs.Event, 60)
	for i := range days {
		days[i] = logs.Event{At: at(i * 3600 * 1000), Data: []byte("x")}
	}
	for name, tt := range map[string]struct {
		events []logs.Event
		puts   int
	}{"large": {large, 6}, "many": {small, 2}, "long": {days, 3}} {
		d := &double{}
		put(t, group(d), true, tt.events)
		if n := len(d.streams[stream(key)]); n != len(tt.events) || d.puts > tt.puts {
			t.Errorf("%s: %d of %d events in %d calls", name, n, len(tt.events), d.puts)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  error
		want string
		away bool
	}{
		"absent":      {&types.ResourceNotFoundException{}, "CloudWatch log group g in eu-west-1: the group does not exist; create it", false},
		"right":       {&smithy.GenericAPIError{Code: "AccessDeniedException"}, "lack a right; allow logs:DescribeLogStreams", false},
		"wrong key":   {&smithy.GenericAPIError{Code: "UnrecognizedClientException"}, "does not accept the credentials; correct AWS_ACCESS_KEY_ID", false},
		"no key":      {errors.New("failed to refresh cached credentials"), "no usable credentials; set", false},
		"bad name":    {&smithy.GenericAPIError{Code: "InvalidParameterException"}, "correct DSTACK_SERVER_CLOUDWATCH_LOG_GROUP", false},
		"unreachable": {errors.New("connection refused"), "can't be reached, or fails: connection refused", true},
		"throttled":   {&smithy.GenericAPIError{Code: "ThrottlingException"}, "can't be reached, or fails", true},
	} {
		err := group(&double{err: tt.err}).Check(t.Context())
		_, away := errors.AsType[*ship.UnreachableError](err)
		if err == nil || !strings.Contains(err.Error(), tt.want) || away != tt.away {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRejected: that CloudWatch left out events is told once.
func TestRejected(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	d := &double{rejected: &types.RejectedLogEventsInfo{}}
	g := group(d)
	g.log = zerolog.New(&log)
	all := events(4)
	put(t, g, true, all[:1])
	put(t, g, false, all[1:2])
	d.rejected = nil
	put(t, g, false, all[2:3])
	d.rejected = &types.RejectedLogEventsInfo{}
	put(t, g, false, all[3:])
	if n := strings.Count(log.String(), "CloudWatch did not take some events"); n != 2 {
		t.Errorf("told %d times: %s", n, log.String())
	}
}
