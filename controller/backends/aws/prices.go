package aws

import (
	"context"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/pricing"
	"github.com/aws/aws-sdk-go-v2/service/pricing/types"

	"dstack/controller/backends"
	"dstack/controller/backends/aws/pricelist"
	"dstack/controller/catalog"
)

const priceTTL = 24 * time.Hour

// priceList is what the Pricing API says, or the permission that is missing.
type priceList struct {
	prices  map[string]priced
	missing string
}

// prices are those on demand of a region, from the Pricing API. An account
// that may not ask gets none and the permission's name.
func (a *Account) prices(ctx context.Context, r *region) (prices map[string]priced, missing string) {
	got, _ := remember(a.known, "prices/"+r.name, priceTTL, func() (priceList, error) {
		out := map[string]priced{}
		pages := pricing.NewGetProductsPaginator(a.pricing, &pricing.GetProductsInput{
			ServiceCode: awssdk.String("AmazonEC2"), Filters: priceFilters(r.name),
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if kindOf(err) == backends.Permission {
				return priceList{missing: "pricing:GetProducts"}, nil
			}
			if err != nil {
				return priceList{}, err
			}
			for _, text := range page.PriceList {
				if name, usd, ok := pricelist.Read(text); ok {
					out[name] = priced{usd: usd, at: a.known.now(), source: "AWS Pricing API"}
				}
			}
		}
		return priceList{prices: out}, nil
	})
	return got.prices, got.missing
}

// priceFilters are machines with Linux alone, shared and not reserved
// (backends.md 4).
func priceFilters(region string) []types.Filter {
	var out []types.Filter
	for _, f := range [][2]string{
		{"regionCode", region}, {"operatingSystem", "Linux"}, {"tenancy", "Shared"}, {"capacitystatus", "Used"}, {"preInstalledSw", "NA"},
	} {
		out = append(out, types.Filter{Type: types.FilterTypeTermMatch, Field: awssdk.String(f[0]), Value: awssdk.String(f[1])})
	}
	return out
}

// catalogue is the list of prices that whoever runs the server keeps. What is
// wrong with it stands behind the source of the prices that are used instead.
func (a *Account) catalogue(ctx context.Context) (list catalog.List, fault string) {
	if a.listed == nil {
		return catalog.List{}, ""
	}
	list, err := a.listed.Prices(ctx, Type)
	if err != nil {
		fault = " (" + err.Error() + ")"
	}
	return list, fault
}

func inCatalogue(list catalog.List, machineType, region string, spot bool) (priced, bool) {
	usd, ok := list.Prices[catalog.Key{Type: machineType, Region: region, Spot: spot}]
	return priced{usd: usd, at: list.At, source: "catalogue " + list.Source}, ok
}
