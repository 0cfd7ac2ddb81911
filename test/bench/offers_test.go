//go:build e2e

package bench

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"dstack/protocol/api"
	"dstack/test/cloudlab/moto"
	"dstack/test/lab"
)

// offersRounds is how often each call is measured.
const offersRounds = 25

// TestOffers prints how long `dstack offer` and a plan take with the whole
// built-in table of aws in its eleven regions. Each plan is made anew: an event
// before it makes what is remembered old.
func TestOffers(t *testing.T) {
	ctx := t.Context()
	double := moto.Start(t)
	for _, action := range []string{"DescribeInstanceTypeOfferings", "DescribeInstanceTypes"} {
		// So that no type is left out which moto does not know.
		double.Inject(t, moto.Fault{Action: action, Code: "UnauthorizedOperation", Status: http.StatusForbidden, Times: 1000})
	}
	regions := []string{
		"us-east-1", "us-east-2", "us-west-1", "us-west-2", "ap-southeast-1", "ca-central-1",
		"eu-central-1", "eu-west-1", "eu-west-2", "eu-west-3", "eu-north-1",
	}
	for _, region := range regions {
		if region == "us-east-1" || region == "eu-west-1" {
			continue // the double did it
		}
		routeToInternet(t, double.URL, region)
	}
	s := lab.ServerFor(t, []string{"AWS_ENDPOINT_URL=" + double.URL})
	call := func(path string, in, out any) {
		t.Helper()
		if err := s.Call(ctx, path, in, out); err != nil {
			t.Fatal(err)
		}
	}
	call("project/main/backends/create", map[string]any{
		"type": "aws", "regions": regions, "creds": map[string]any{"type": "access_key", "access_key": "key", "secret_key": "secret"},
	}, nil)
	spec := map[string]any{"configuration": map[string]any{"type": "fleet", "name": "pool", "nodes": "0..2", "spot_policy": "auto"}, "profile": map[string]any{"name": "default"}}
	call("project/main/fleets/apply", map[string]any{"plan": map[string]any{"spec": spec}, "force": false}, nil)

	request := map[string]any{"run_spec": map[string]any{"configuration": map[string]any{
		"type": "task", "image": "scratch", "commands": []string{":"}, "spot_policy": "auto", "resources": map[string]any{"cpu": "1..", "memory": "0.."},
	}}}
	var plan api.RunPlan
	first := clocked(func() { call("project/main/runs/get_plan", request, &plan) })
	err := lab.Wait(ctx, time.Minute, "offers of all regions", func(context.Context) error {
		call("project/main/runs/get_plan", request, &plan)
		if n := plan.JobPlans[0].TotalOffers; n < 2000 {
			return fmt.Errorf("%d offers, warnings %q", n, plan.Warnings)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var report strings.Builder
	fmt.Fprintf(&report, "%d offers; the first plan, which waits for the cloud: %s\n", plan.JobPlans[0].TotalOffers, round(first))
	for _, m := range []struct {
		name string
		do   func()
	}{
		{"runs/get_plan", func() { call("project/main/runs/get_plan", request, &plan) }},
		{"runs/get_plan, offers only", func() {
			request["for_offers_only"] = true
			call("project/main/runs/get_plan", request, &plan)
		}},
		{"dstack offer", func() {
			if out, err := s.CLI(ctx, t.TempDir(), "offer", "--spot-auto"); err != nil || out.Exit != 0 {
				t.Fatalf("%+v %v", out, err)
			}
		}},
		{"dstack offer --group-by gpu", func() {
			if out, err := s.CLI(ctx, t.TempDir(), "offer", "--spot-auto", "--group-by", "gpu"); err != nil || out.Exit != 0 {
				t.Fatalf("%+v %v", out, err)
			}
		}},
	} {
		var took []time.Duration
		for n := range offersRounds {
			// A row changes, so nothing is answered from memory.
			call("project/main/secrets/create_or_update", map[string]any{"name": "round", "value": fmt.Sprint(m.name, n)}, nil)
			took = append(took, clocked(m.do))
		}
		fmt.Fprintf(&report, "%-28s median %s, %s to %s\n", m.name, round(median(took)), round(slices.Min(took)), round(slices.Max(took)))
	}
	t.Log("\n" + report.String())
}

func clocked(do func()) time.Duration {
	began := time.Now()
	do()
	return time.Since(began)
}

// routeToInternet makes the default network of a region as AWS makes it.
func routeToInternet(t *testing.T, url, region string) {
	t.Helper()
	client := ec2.New(ec2.Options{Region: region, BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider("key", "secret", "")})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	vpcs, err := client.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{})
	must(err)
	vpc := vpcs.Vpcs[0].VpcId
	gateway, err := client.CreateInternetGateway(t.Context(), &ec2.CreateInternetGatewayInput{})
	must(err)
	id := gateway.InternetGateway.InternetGatewayId
	_, err = client.AttachInternetGateway(t.Context(), &ec2.AttachInternetGatewayInput{InternetGatewayId: id, VpcId: vpc})
	must(err)
	tables, err := client.DescribeRouteTables(t.Context(), &ec2.DescribeRouteTablesInput{
		Filters: []types.Filter{{Name: awssdk.String("vpc-id"), Values: []string{*vpc}}},
	})
	must(err)
	_, err = client.CreateRoute(t.Context(), &ec2.CreateRouteInput{
		RouteTableId: tables.RouteTables[0].RouteTableId, GatewayId: id, DestinationCidrBlock: awssdk.String("0.0.0.0/0"),
	})
	must(err)
}
