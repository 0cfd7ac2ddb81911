// Package cloudwatch keeps logs in a log group of Amazon CloudWatch, in the
// streams of 0.22.5: PROJECT/RUN/JOB/job, or .../runner for the agent's log
// (spec: server-operations.md 6).
//
// CloudWatch can't drop what it has, so a batch that may be there already is
// compared with the time of the stream's last event: times of events differ by
// at least a millisecond, and batches arrive whole or not at all. An event that
// CloudWatch took but does not show yet can be sent twice.
package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/rs/zerolog"

	"dstack/controller/logs"
	"dstack/controller/logs/ship"
)

// Variables name the group and its region.
const (
	VariableGroup  = "DSTACK_SERVER_CLOUDWATCH_LOG_GROUP"
	VariableRegion = "DSTACK_SERVER_CLOUDWATCH_LOG_REGION"
)

// Limits of PutLogEvents.
const (
	maxBatchBytes  = 1 << 20
	maxBatchEvents = 10_000
	eventOverhead  = 26
	maxBatchSpan   = 24*time.Hour - time.Second
)

// delay is how long lines wait for more.
const delay = 2 * time.Second

// Client is what is used of the SDK's client.
type Client interface {
	DescribeLogStreams(ctx context.Context, in *cloudwatchlogs.DescribeLogStreamsInput, opts ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.DescribeLogStreamsOutput, error)
	CreateLogStream(ctx context.Context, in *cloudwatchlogs.CreateLogStreamInput, opts ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.CreateLogStreamOutput, error)
	PutLogEvents(ctx context.Context, in *cloudwatchlogs.PutLogEventsInput, opts ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.PutLogEventsOutput, error)
	GetLogEvents(ctx context.Context, in *cloudwatchlogs.GetLogEventsInput, opts ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.GetLogEventsOutput, error)
}

// Group is a log group.
type Group struct {
	client Client
	group  string
	region string
	log    zerolog.Logger

	mu      sync.Mutex
	refused bool // told that some events were not taken
}

// Open returns a log group. An empty region is the one of the environment or
// the profile. Nothing is asked of CloudWatch yet.
func Open(ctx context.Context, group, region string, log zerolog.Logger) (*Group, error) {
	var opts []func(*config.LoadOptions) error
	if region != "" {
		opts = append(opts, config.WithRegion(region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("read settings of AWS: %w", err)
	}
	if cfg.Region == "" {
		return nil, fmt.Errorf("the region of CloudWatch log group %s is not known; set %s", group, VariableRegion)
	}
	return &Group{client: cloudwatchlogs.NewFromConfig(cfg), group: group, region: cfg.Region, log: log}, nil
}

// Name is the group and its region.
func (g *Group) Name() string { return "cloudwatch:" + g.region + ":" + g.group }

// Traits say that events wait a moment for more.
func (*Group) Traits() ship.Traits { return ship.Traits{Delay: delay} }

func stream(k logs.Key) string {
	producer, job := k.Producer()
	return strings.Join([]string{k.Project, k.Run, job, producer}, "/")
}

// URL is the stream's page in the console of AWS.
func (g *Group) URL(k logs.Key) string {
	part := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "%", "$25") }
	return fmt.Sprintf("https://%s.console.aws.amazon.com/cloudwatch/home?region=%s#logsV2:log-groups/log-group/%s/log-events/%s",
		g.region, g.region, part(g.group), part(stream(k)))
}

// Check asks for a stream of the group.
func (g *Group) Check(ctx context.Context) error {
	_, err := g.client.DescribeLogStreams(ctx, &cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: &g.group, Limit: aws.Int32(1)})
	return g.explain(err)
}

// Put sends as much as fits in one call.
func (g *Group) Put(ctx context.Context, b ship.Batch) (int, error) {
	name := stream(b.Key)
	skip := 0
	if b.Resumed {
		last, err := g.resume(ctx, name)
		if err != nil {
			return 0, g.explain(err)
		}
		for skip < len(b.Events) && b.Events[skip].At.UnixMilli() <= last {
			skip++
		}
	}
	events := fitting(b.Events[skip:])
	if len(events) == 0 {
		return skip, nil
	}
	out, err := g.client.PutLogEvents(ctx, &cloudwatchlogs.PutLogEventsInput{LogGroupName: &g.group, LogStreamName: &name, LogEvents: events})
	if err != nil {
		return 0, g.explain(err)
	}
	g.report(name, out.RejectedLogEventsInfo)
	return skip + len(events), nil
}

// resume makes the stream, or finds the time of its last event.
func (g *Group) resume(ctx context.Context, name string) (last int64, err error) {
	_, err = g.client.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: &g.group, LogStreamName: &name})
	if _, exists := errors.AsType[*types.ResourceAlreadyExistsException](err); !exists {
		return 0, err //nolint:wrapcheck // explained by the caller
	}
	events, err := g.read(ctx, request(g.group, name, logs.PollOptions{Descending: true, Limit: 1}, -1))
	for _, e := range events {
		last = max(last, aws.ToInt64(e.Timestamp))
	}
	return last, err
}

// fitting are the first events, as many as one call may have.
func fitting(events []logs.Event) []types.InputLogEvent {
	var out []types.InputLogEvent
	size := 0
	for _, e := range events {
		text := ship.Text(e.Data)
		size += len(text) + eventOverhead
		if len(out) > 0 && (size > maxBatchBytes || len(out) == maxBatchEvents || e.At.Sub(events[0].At) > maxBatchSpan) {
			break
		}
		out = append(out, types.InputLogEvent{Message: &text, Timestamp: aws.Int64(e.At.UnixMilli())})
	}
	return out
}

// report says, once until all are taken again, that events were not taken.
func (g *Group) report(name string, rejected *types.RejectedLogEventsInfo) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rejected == nil {
		g.refused = false
		return
	}
	if !g.refused {
		g.log.Warn().Str("stream", name).Msg("CloudWatch did not take some events of logs: they are older than 14 days or the group's retention, or more than 2 hours ahead")
	}
	g.refused = true
}
