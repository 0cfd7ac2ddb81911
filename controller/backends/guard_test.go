package backends_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
)

// slow is a backend that never answers by itself.
type slow struct{ backends.Backend }

func (slow) Offers(ctx context.Context) ([]backends.Offer, error) {
	<-ctx.Done()
	return nil, &backends.Error{Kind: backends.Transient, Backend: "slow", Message: "gave up", Err: ctx.Err()}
}

func TestTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backends.Guard("slow", slow{}, backends.TimeLimit(func(backends.Call) time.Duration { return 7 * time.Second }))
		began := time.Now()
		_, err := b.Offers(t.Context())
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("took %s", took)
		}
		if err == nil || err.Error() != "slow: offers: no answer in 7s" || !errors.Is(err, backends.Transient) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := fake.New(fake.Config{Now: time.Now})
		b := backends.Guard("dstack", cloud.Open(), backends.RateLimit(rate.NewLimiter(2, 1)))
		began := time.Now()
		for range 5 {
			if _, err := b.Offers(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("5 calls at 2 a second took %s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := b.Offers(ctx); !errors.Is(err, backends.Throttled) {
			t.Errorf("a call that cannot wait: %v", err)
		}
	})
}

func TestMeasureAndTrace(t *testing.T) {
	cloud := fake.New(fake.Config{Now: time.Now})
	cloud.Inject(fake.Fault{Op: "create", Times: 1, Err: backends.Error{Kind: backends.Quota, Message: "limit"}})
	var got []string
	var log strings.Builder
	b := backends.Guard("dstack", cloud.Open(),
		backends.Measure(time.Now, func(c backends.Call, _ time.Duration, kind backends.Kind) {
			got = append(got, fmt.Sprintf("%s %s %s %q", c.Backend, c.Op, c.Region, kind))
		}),
		backends.Trace(zerolog.New(&log)))
	for range 2 {
		_, _ = b.Create(t.Context(), backends.MachineSpec{Token: "t", Region: "region-1", Type: "gpu"})
	}
	want := []string{`dstack create region-1 "quota"`, `dstack create region-1 ""`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if lines := strings.Count(log.String(), "call to cloud"); lines != 2 || !strings.Contains(log.String(), `"kind":"quota"`) {
		t.Errorf("logged %s", log.String())
	}
}

func TestPowers(t *testing.T) {
	cloud := fake.New(fake.Config{Now: time.Now})
	for name, b := range map[string]backends.Backend{
		"plain": cloud.Open(), "guarded": backends.Guard("dstack", cloud.Open()),
	} {
		if got := backends.Powers(b); !slices.Equal(got, []string{"volumes", "placement groups", "reservations", "remains"}) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := backends.Powers(backends.Guard("slow", slow{})); len(got) > 0 {
		t.Errorf("a backend without powers has %v", got)
	}
}

func TestErrorText(t *testing.T) {
	for _, c := range []struct {
		err  backends.Error
		want string
	}{
		{backends.Error{Kind: backends.NoCapacity, Backend: "aws", Region: "eu-west-1", Message: "no p5.48xlarge is free"}, "aws eu-west-1: no p5.48xlarge is free"},
		{
			backends.Error{Kind: backends.Permission, Backend: "aws", Message: "RunInstances was refused", Permission: "ec2:RunInstances", Remedy: "Add it to the policy"},
			"aws: RunInstances was refused (the permission ec2:RunInstances is missing). Add it to the policy",
		},
		{
			backends.Error{Kind: backends.Config, Backend: "aws", Region: "eu-west-1", Message: "VPC vpc-1 does not exist", Field: []string{"vpc_ids", "eu-west-1"}},
			"aws eu-west-1: VPC vpc-1 does not exist (vpc_ids.eu-west-1)",
		},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
		if err := fmt.Errorf("create: %w", &c.err); backends.KindOf(err) != c.err.Kind || !errors.Is(err, c.err.Kind) {
			t.Errorf("the kind of %v is %s", err, backends.KindOf(err))
		}
	}
	if got := backends.KindOf(errors.New("?")); got != backends.Transient {
		t.Errorf("an error without a kind is %s", got)
	}
}
