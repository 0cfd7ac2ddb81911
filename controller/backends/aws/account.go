package aws

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/pricing"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"dstack/controller/backends"
	"dstack/protocol/config"
)

// Type is the type of the backend on the wire.
const Type = "aws"

// mainRegion is where the account is asked about itself.
const mainRegion = "us-east-1"

// defaultRegions are those of a backend that names none (backends.md 3.1).
var defaultRegions = []string{
	"us-east-1", "us-east-2", "us-west-1", "us-west-2", "ap-southeast-1", "ca-central-1",
	"eu-central-1", "eu-west-1", "eu-west-2", "eu-west-3", "eu-north-1",
}

// The SDK asks twice, and waits two seconds at most in between: more patience
// is the engine's, which knows what else it could do.
const (
	attempts   = 2
	maxBackoff = 2 * time.Second
)

// listPage is how many machines EC2 lists at once; its own limit is 1000.
const listPage = 500

// Account is an account of AWS. It implements [backends.Backend] and all
// powers.
type Account struct {
	cfg     *config.AWSBackend
	regions map[string]*region
	sts     *sts.Client
	pricing *pricing.Client
	known   *memo
	listed  Prices // nil for none
	page    int32
}

var (
	_ backends.Backend         = (*Account)(nil)
	_ backends.Volumes         = (*Account)(nil)
	_ backends.PlacementGroups = (*Account)(nil)
	_ backends.Reservations    = (*Account)(nil)
	_ backends.Remains         = (*Account)(nil)
)

// region is a region with its clients.
type region struct {
	name   string
	ec2    *ec2.Client
	quotas *servicequotas.Client
}

// load makes the SDK's configuration for an account. The endpoints are AWS's
// own, or those of AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_<SERVICE>.
func load(ctx context.Context, b *config.AWSBackend) (awssdk.Config, error) {
	options := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithRegion(mainRegion),
		awsconfig.WithRetryer(retryer),
		awsconfig.WithLogger(logging.Nop{}), // what matters comes back as an error
	}
	if b.Creds != nil && b.Creds.Type == config.CredsAccessKey {
		options = append(options, awsconfig.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(b.Creds.AccessKey, b.Creds.SecretKey, "")))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return awssdk.Config{}, fmt.Errorf("load the configuration of AWS on the server's host: %w", err)
	}
	return cfg, nil
}

// retryer is how the SDK repeats a call. A zone that is full is not asked
// again, although AWS says so with a status of 500.
func retryer() awssdk.Retryer {
	full := retry.IsErrorRetryableFunc(func(err error) awssdk.Ternary {
		if kindOf(err) == backends.NoCapacity {
			return awssdk.FalseTernary
		}
		return awssdk.UnknownTernary
	})
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts, o.MaxBackoff, o.RateLimiter = attempts, maxBackoff, ratelimit.None
		o.Retryables = append([]retry.IsErrorRetryable{full}, o.Retryables...)
	})
}

// open makes an account; no call is made.
func open(cfg awssdk.Config, b *config.AWSBackend, now func() time.Time) *Account {
	a := &Account{
		cfg: b, regions: map[string]*region{}, known: &memo{now: now, answers: map[string]answer{}}, page: listPage,
		sts:     sts.NewFromConfig(cfg),
		pricing: pricing.NewFromConfig(cfg, func(o *pricing.Options) { o.Region = mainRegion }),
	}
	names := b.Regions
	if names == nil {
		names = defaultRegions
	}
	for _, name := range names {
		a.regions[name] = &region{
			name:   name,
			ec2:    ec2.NewFromConfig(cfg, func(o *ec2.Options) { o.Region = name }),
			quotas: servicequotas.NewFromConfig(cfg, func(o *servicequotas.Options) { o.Region = name }),
		}
	}
	return a
}

// publicIPs says whether machines get public addresses.
func (a *Account) publicIPs() bool { return a.cfg.PublicIPs == nil || *a.cfg.PublicIPs }

func (a *Account) region(name string) (*region, error) {
	r := a.regions[name]
	if r == nil {
		return nil, wrong([]string{"regions"}, "region %q is not among those of the backend", name)
	}
	return r, nil
}

// everywhere asks all regions at once. It returns what was found in the order
// of the regions' names, and the error of the first one that failed.
func everywhere[T any](ctx context.Context, a *Account, op string, ask func(context.Context, *region) ([]T, error)) ([]T, error) {
	var (
		wg    sync.WaitGroup
		names = sortedKeys(a.regions)
		found = make([][]T, len(names))
		errs  = make([]error, len(names))
	)
	for i, name := range names {
		wg.Go(func() { found[i], errs[i] = ask(ctx, a.regions[name]) })
	}
	wg.Wait()
	var out []T
	for _, part := range found {
		out = append(out, part...)
	}
	for i, err := range errs {
		if err != nil {
			return out, a.failed(ctx, op, names[i], err)
		}
	}
	return out, nil
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// memo remembers for a while what AWS said.
type memo struct {
	now func() time.Time

	mu      sync.Mutex
	answers map[string]answer
}

type answer struct {
	value any
	until time.Time
}

// remember is what is known under a key, or else what ask says.
func remember[T any](m *memo, key string, ttl time.Duration, ask func() (T, error)) (T, error) {
	m.mu.Lock()
	kept := m.answers[key]
	m.mu.Unlock()
	if v, ok := kept.value.(T); ok && m.now().Before(kept.until) {
		return v, nil
	}
	v, err := ask()
	if err != nil {
		return v, err
	}
	m.mu.Lock()
	m.answers[key] = answer{value: v, until: m.now().Add(ttl)}
	m.mu.Unlock()
	return v, nil
}

// forget drops everything: something that was known is not so any more.
func (m *memo) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.answers)
}
