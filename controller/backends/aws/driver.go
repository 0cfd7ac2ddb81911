package aws

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"dstack/controller/backends"
	"dstack/controller/catalog"
	"dstack/protocol/config"
)

// Prices are what whoever runs the server says about prices;
// [catalog.Catalog] knows them.
type Prices interface {
	Prices(ctx context.Context, backend string) (catalog.List, error)
}

// Driver is what this build can do on aws.
type Driver struct {
	// Prices take the place of the built-in ones where AWS itself does not say
	// what a machine costs; nil for none.
	Prices Prices
}

var _ backends.Driver = Driver{}

// errType is a mistake of the caller.
var errType = errors.New("the backend is not of type aws")

// Open makes the account of a configuration. No call goes to AWS; whether the
// configuration works is for Validate to find out.
func (d Driver) Open(ctx context.Context, b config.Backend) (backends.Backend, error) {
	c, ok := b.Config.(*config.AWSBackend)
	if !ok {
		return nil, errType
	}
	cfg, err := load(ctx, c)
	if err != nil {
		return nil, err
	}
	a := open(cfg, c, time.Now)
	a.listed = d.Prices
	return a, nil
}

// Validate is that of [backends.Driver]: who we are, the instance profile, and
// the network of each region.
func (Driver) Validate(ctx context.Context, b config.Backend) error {
	c, ok := b.Config.(*config.AWSBackend)
	if !ok {
		return errType
	}
	if err := checkConfig(c); err != nil {
		return err
	}
	cfg, err := load(ctx, c)
	if err != nil {
		return invalid(err)
	}
	a := open(cfg, c, time.Now)
	if _, err := a.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}); err != nil {
		return invalid(a.failed(ctx, "validate", "", err))
	}
	if err := a.checkProfile(ctx, cfg); err != nil {
		return invalid(err)
	}
	_, err = everywhere(ctx, a, "validate", func(ctx context.Context, r *region) ([]subnet, error) {
		net, err := a.network(ctx, r)
		if err != nil {
			return nil, err
		}
		return net.places(nil, a.publicIPs())
	})
	return invalid(err)
}

// checkConfig is what needs no cloud (backends.md 3.1, Validation).
func checkConfig(c *config.AWSBackend) error {
	noDefault := c.DefaultVPCs != nil && !*c.DefaultVPCs
	switch {
	case c.VPCName != nil && c.VPCIDs != nil:
		return &backends.Invalid{Message: "Only one of vpc_name and vpc_ids can be set", Field: []string{"vpc_name"}}
	case noDefault && c.VPCName == nil && c.VPCIDs == nil:
		return &backends.Invalid{Message: "vpc_name or vpc_ids must be set if default_vpcs is false", Field: []string{"default_vpcs"}}
	case noDefault && c.VPCIDs != nil:
		regions := c.Regions
		if regions == nil {
			regions = defaultRegions
		}
		for _, r := range regions {
			if c.VPCIDs[r] == "" {
				return &backends.Invalid{
					Message: fmt.Sprintf("vpc_ids has no VPC for region %s, and default_vpcs is false", r), Field: []string{"vpc_ids"},
				}
			}
		}
	}
	return checkTags(c.Tags)
}

// mostTags is how many tags a backend may have: AWS takes 50, of which some are
// ours and some the user's.
const mostTags = 25

var (
	tagKey   = regexp.MustCompile(`^[\p{L}\p{N}_ .:/=\-+@]{1,128}$`)
	tagValue = regexp.MustCompile(`^[\p{L}\p{N}_ .:/=\-+@]{0,256}$`)
)

// checkTags refuses tags that AWS would refuse with each machine (backends.md 1.7).
func checkTags(tags map[string]string) error {
	field := []string{"tags"}
	if len(tags) > mostTags {
		return &backends.Invalid{Message: fmt.Sprintf("tags: a backend has at most %d, these are %d", mostTags, len(tags)), Field: field}
	}
	for _, key := range sortedKeys(tags) {
		switch {
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return &backends.Invalid{Message: fmt.Sprintf("tags: %q: keys that begin with aws: are for AWS alone, choose another one", key), Field: field}
		case !tagKey.MatchString(key):
			return &backends.Invalid{Message: fmt.Sprintf("tags: %q: a key has 1 to 128 letters, digits, blanks and . : / = _ - + @", key), Field: field}
		case !tagValue.MatchString(tags[key]):
			return &backends.Invalid{Message: fmt.Sprintf("tags: the value of %q: it has up to 256 letters, digits, blanks and . : / = _ - + @", key), Field: field}
		}
	}
	return nil
}

// checkProfile asks whether the instance profile exists, if the account may
// ask.
func (a *Account) checkProfile(ctx context.Context, cfg awssdk.Config) error {
	if a.cfg.IAMInstanceProfile == nil {
		return nil
	}
	_, err := iam.NewFromConfig(cfg).GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: a.cfg.IAMInstanceProfile})
	if code(err) == "NoSuchEntity" {
		return wrong([]string{"iam_instance_profile"}, "IAM instance profile %s not found", *a.cfg.IAMInstanceProfile)
	}
	return a.failed(ctx, "validate", "", err)
}

// invalid tells the user what does not work. What a cloud did not answer is no
// fault of the configuration, and stays as it is.
func invalid(err error) error {
	if err == nil {
		return nil
	}
	var known *backends.Error
	if !errors.As(err, &known) || !backends.Stops(err) {
		return err
	}
	message := known.Error()
	if known.Backend == "" {
		message = known.Message
	}
	return &backends.Invalid{Message: message, Credentials: known.Kind == backends.Auth && len(known.Field) > 0, Field: known.Field}
}
