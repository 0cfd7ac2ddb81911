package aws

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dstack/controller/backends"
	"dstack/controller/catalog"
	"dstack/protocol/config"
)

// denied is an AWS that lets nobody do anything.
func denied(t *testing.T) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := `{"__type":"AccessDeniedException","message":"not authorized"}`
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
			answer = `<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>not authorized</Message></Error></Errors></Response>`
		}
		w.WriteHeader(http.StatusForbidden)
		if _, err := w.Write([]byte(answer)); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
}

// TestSamePrice is about regions of which no price is known.
func TestSamePrice(t *testing.T) {
	denied(t)
	b := &config.AWSBackend{Regions: []string{"eu-west-1", mainRegion}, Creds: &config.AWSCreds{Type: config.CredsAccessKey, AccessKey: "k", SecretKey: "s"}}
	account, err := Driver{}.Open(t.Context(), config.Backend{Type: Type, Config: b})
	if err != nil {
		t.Fatal(err)
	}
	offers, err := account.Offers(t.Context())
	if err != nil || len(offers) < 4 || offers[0].Region != mainRegion || offers[0].Price != offers[3].Price || offers[3].Region != "eu-west-1" {
		t.Errorf("%v, %+v", err, offers[:min(len(offers), 4)])
	}
}

// listed are the prices of a catalogue.
type listed struct {
	list catalog.List
	err  error
}

func (l listed) Prices(context.Context, string) (catalog.List, error) { return l.list, l.err }

// TestPriceSources is what is shown of an account that may only rent.
func TestPriceSources(t *testing.T) {
	denied(t)
	at := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	list := catalog.List{At: at, Source: "/etc/prices.csv", Prices: map[catalog.Key]float64{
		{Type: "m5.large", Region: "eu-west-1"}: 0.107, {Type: "m5.large", Region: "eu-west-1", Spot: true}: 0.04,
		{Type: "p5e.48xlarge", Region: "eu-west-1"}: 60,
	}}
	const lack = " (live prices need the permission pricing:GetProducts)"
	const onDemand = "the price on demand, which spot never exceeds (live prices need the permission ec2:DescribeSpotPriceHistory)"
	const listedThere = "catalogue /etc/prices.csv"
	for name, c := range map[string]struct {
		prices Prices
		want   map[string]priced // by type and market
	}{
		"no catalogue": {nil, map[string]priced{
			"m5.large": {0.096, shapesDate, "built-in table of us-east-1" + lack}, "m5.large spot": {0.096, shapesDate, onDemand},
			"p5e.48xlarge": {}, "c5.large": {0.085, shapesDate, "built-in table of us-east-1" + lack},
		}},
		"a catalogue": {listed{list: list}, map[string]priced{
			"m5.large": {0.107, at, listedThere}, "m5.large spot": {0.04, at, listedThere}, "p5e.48xlarge": {60, at, listedThere},
			"p5e.48xlarge spot": {60, at, onDemand}, "c5.large": {0.085, shapesDate, "built-in table of us-east-1" + lack},
		}},
		"a catalogue that is gone": {listed{err: errors.New("no such file")}, map[string]priced{
			"m5.large": {0.096, shapesDate, "built-in table of us-east-1" + lack + " (no such file)"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := &config.AWSBackend{Regions: []string{"eu-west-1"}, Creds: &config.AWSCreds{Type: config.CredsAccessKey, AccessKey: "k", SecretKey: "s"}}
			account, err := Driver{Prices: c.prices}.Open(t.Context(), config.Backend{Type: Type, Config: b})
			if err != nil {
				t.Fatal(err)
			}
			offers, err := account.Offers(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]backends.Offer{}
			for _, o := range offers {
				name := o.Instance.Name
				if o.Instance.Resources.Spot {
					name += " spot"
				}
				got[name] = o
			}
			for name, want := range c.want {
				if have := (priced{got[name].Price, got[name].PricedAt, got[name].PriceSource}); have != want {
					t.Errorf("%s: %+v, want %+v", name, have, want)
				}
			}
		})
	}
}

func TestShapes(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range shapes() {
		if seen[s.name] || s.cpus == 0 || s.memoryGiB == 0 || s.price < 0 || (s.gpus > 0) != (s.gpu != "") || (s.gpus > 0) != (s.gpuGiB > 0) {
			t.Errorf("%+v", s)
		}
		if gpuType(s.name) != (s.gpus > 0) {
			t.Errorf("%s: GPUs by name %t, by table %d", s.name, gpuType(s.name), s.gpus)
		}
		seen[s.name] = true
	}
	for _, name := range []string{"m7i.large", "m7i.xlarge", "c7i.48xlarge", "c5.9xlarge", "r7i.2xlarge", "m5.24xlarge"} {
		if !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestFamilies(t *testing.T) {
	for _, c := range []struct {
		machineType string
		spot        bool
		code        string
	}{
		{"m5.large", false, "L-1216C47A"},
		{"m5.large", true, "L-34B43A08"},
		{"g5.xlarge", false, "L-DB2E81BA"},
		{"gr6.4xlarge", true, "L-3819A6DF"},
		{"p5.48xlarge", false, "L-417A185B"},
		{"p5.48xlarge", true, "L-C4BD4855"},
		{"p4d.24xlarge", true, "L-7212CCBC"},
		{"p6-b200.48xlarge", true, ""},
	} {
		if got := familyOf(c.machineType, c.spot); got.code != c.code || got.name == "" {
			t.Errorf("%s, spot %t: %+v", c.machineType, c.spot, got)
		}
	}
}
