package aws

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"

	"dstack/controller/backends"
	"dstack/protocol/api"
)

// extraTime is for prices and limits of a region, which offers go without.
const extraTime = 10 * time.Second

// Root disks, in GB: images with the driver of GPUs are larger. The price of an
// address is in USD an hour.
const (
	diskMin      = 30
	diskMinGPU   = 100
	diskMax      = 16384
	hoursMonth   = 730
	addressPrice = 0.005
)

const (
	quotaTTL = 10 * time.Minute
	spotTTL  = 5 * time.Minute
	typesTTL = 24 * time.Hour
)

// Availabilities on the wire.
const (
	unknown = "unknown"
	noQuota = "no_quota"
)

// Offers is that of [backends.Backend].
func (a *Account) Offers(ctx context.Context) ([]backends.Offer, error) {
	out, err := everywhere(ctx, a, "offers", a.regionOffers)
	// Of what has the same price, the region comes first for which the built-in
	// prices are true.
	elsewhere := func(o backends.Offer) int {
		if o.Region == mainRegion {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(out, func(x, y backends.Offer) int {
		return cmp.Or(cmp.Compare(x.Price, y.Price), cmp.Compare(elsewhere(x), elsewhere(y)))
	})
	return out, err
}

// regionOffers are the machine types that a region has, on demand and spot.
func (a *Account) regionOffers(ctx context.Context, r *region) ([]backends.Offer, error) {
	zones, err := a.zones(ctx, r)
	if err != nil {
		return nil, err
	}
	// What makes an offer better must not hold it up.
	ctx, cancel := context.WithTimeout(ctx, extraTime)
	defer cancel()
	spots, spotMissing := a.spotPrices(ctx, r)
	live, missing := a.prices(ctx, r)
	listed, fault := a.catalogue(ctx)
	var out []backends.Offer
	for _, s := range append(shapes(), a.experimental(ctx, r)...) {
		in, known := zones[s.name]
		if len(zones) > 0 && !known {
			continue
		}
		base := priced{usd: s.price, at: shapesDate, source: "built-in table of us-east-1" + needs(missing) + fault}
		if p, ok := inCatalogue(listed, s.name, r.name, false); ok {
			base = p
		}
		if p, ok := live[s.name]; ok {
			base = p
		}
		if base.usd <= 0 {
			continue // nobody rents what has no price
		}
		out = append(out, a.offer(ctx, r, s, in, false, base))
		spot := priced{usd: base.usd, at: base.at, source: "the price on demand, which spot never exceeds" + needs(spotMissing)}
		if p, ok := inCatalogue(listed, s.name, r.name, true); ok {
			spot = p
		}
		if p, ok := spots[s.name]; ok {
			spot = p
		}
		out = append(out, a.offer(ctx, r, s, in, true, spot))
	}
	return out, nil
}

// needs names the permission that a better answer needs.
func needs(permission string) string {
	if permission == "" {
		return ""
	}
	return " (live prices need the permission " + permission + ")"
}

// priced is a price in USD an hour.
type priced struct {
	usd    float64
	at     time.Time
	source string
}

func (a *Account) offer(ctx context.Context, r *region, s shape, zones []string, spot bool, p priced) backends.Offer {
	limit := familyOf(s.name, spot)
	o := backends.Offer{
		Offer: api.Offer{
			Backend: Type, Instance: api.InstanceType{Name: s.name, Resources: s.resources(spot)}, Region: r.name, Price: p.usd,
			Availability: unknown, AvailabilityZones: zones, InstanceRuntime: "shim", Blocks: 1, TotalBlocks: 1,
		},
		Family: limit.name, DiskMin: diskMin, DiskMax: diskMax, DiskPrice: gp3GB / hoursMonth, AddressPrice: addressPrice,
		PricedAt: p.at, PriceSource: p.source,
	}
	if s.gpus > 0 {
		o.DiskMin = diskMinGPU
	}
	if vcpus, ok := a.quota(ctx, r, limit.code); ok && float64(s.cpus) > vcpus {
		o.Availability = noQuota
	}
	if !a.publicIPs() {
		o.AddressPrice = 0
	}
	return o
}

// zones are the zones of the machine types that a region has. Where the
// account may not ask for zones, a type has none: then all are tried.
func (a *Account) zones(ctx context.Context, r *region) (map[string][]string, error) {
	return remember(a.known, "types/"+r.name, typesTTL, func() (map[string][]string, error) {
		names, out := a.offered(), map[string][]string{}
		pages := ec2.NewDescribeInstanceTypeOfferingsPaginator(r.ec2, &ec2.DescribeInstanceTypeOfferingsInput{
			LocationType: types.LocationTypeAvailabilityZone, Filters: []types.Filter{filter("instance-type", names...)},
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if kindOf(err) == backends.Permission {
				return a.typesOf(ctx, r, names)
			}
			if err != nil {
				return nil, err
			}
			for _, o := range page.InstanceTypeOfferings {
				out[string(o.InstanceType)] = append(out[string(o.InstanceType)], awssdk.ToString(o.Location))
			}
		}
		for _, list := range out {
			slices.Sort(list)
		}
		return out, nil
	})
}

// typesOf asks the same by a call that all accounts of 0.22.5 may make.
func (a *Account) typesOf(ctx context.Context, r *region, names []string) (map[string][]string, error) {
	out := map[string][]string{}
	pages := ec2.NewDescribeInstanceTypesPaginator(r.ec2, &ec2.DescribeInstanceTypesInput{
		Filters: []types.Filter{filter("instance-type", names...)},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if kindOf(err) == backends.Permission {
			return map[string][]string{}, nil // the table alone
		}
		if err != nil {
			return nil, err
		}
		for _, t := range page.InstanceTypes {
			out[string(t.InstanceType)] = nil
		}
	}
	return out, nil
}

// spotPrices are those of now, of the cheapest zone. An account that may not
// ask gets none and the permission's name.
func (a *Account) spotPrices(ctx context.Context, r *region) (prices map[string]priced, missing string) {
	got, err := remember(a.known, "spot/"+r.name, spotTTL, func() (map[string]priced, error) {
		out, now := map[string]priced{}, a.known.now()
		pages := ec2.NewDescribeSpotPriceHistoryPaginator(r.ec2, &ec2.DescribeSpotPriceHistoryInput{
			StartTime: &now, ProductDescriptions: []string{"Linux/UNIX"}, InstanceTypes: typesNamed(a.offered()),
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, p := range page.SpotPriceHistory {
				usd, err := strconv.ParseFloat(awssdk.ToString(p.SpotPrice), 64)
				name := string(p.InstanceType)
				if known, ok := out[name]; err == nil && usd > 0 && (!ok || usd < known.usd) {
					out[name] = priced{usd: usd, at: now, source: "DescribeSpotPriceHistory"}
				}
			}
		}
		return out, nil
	})
	if kindOf(err) == backends.Permission {
		missing = "ec2:DescribeSpotPriceHistory"
	}
	return got, missing
}

func typesNamed(names []string) []types.InstanceType {
	out := make([]types.InstanceType, 0, len(names))
	for _, name := range names {
		out = append(out, types.InstanceType(name))
	}
	return out
}

// quota is how many vCPUs of a family may run, if AWS says so.
func (a *Account) quota(ctx context.Context, r *region, code string) (float64, bool) {
	if code == "" {
		return 0, false
	}
	got, _ := remember(a.known, "quota/"+r.name+"/"+code, quotaTTL, func() (*float64, error) {
		out, err := r.quotas.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{ServiceCode: awssdk.String("ec2"), QuotaCode: &code})
		if err != nil || out.Quota == nil {
			// Whoever may not ask is not asked again for each machine type.
			return nil, ctx.Err()
		}
		return out.Quota.Value, nil
	})
	if got == nil {
		return 0, false
	}
	return *got, true
}
