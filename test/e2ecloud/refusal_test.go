//go:build e2e

package e2ecloud

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/cloudlab/moto"
	"dstack/test/lab"
)

// refusal is a call that AWS refuses until somebody changes something.
type refusal struct {
	name, action, code, message string
	// says are in the one sentence that the user reads in each place: what is
	// wrong by name, and what to do.
	says []string
	// long is for what CI leaves out.
	long bool
}

var refusals = []refusal{
	{
		name: "the clock is off", action: "*", code: "RequestExpired", message: "Request has expired.",
		says: []string{"Request has expired", "Set the clock of the server's host"},
	},
	{
		name: "the clock is off, by signature", action: "*", code: "SignatureDoesNotMatch", long: true,
		message: "Signature expired: 20260101T000000Z is now earlier than 20260101T010000Z (20260101T011500Z - 15 min.)",
		says:    []string{"Set the clock of the server's host"},
	},
	{
		name: "a region that is not enabled", action: "*", code: "OptInRequired", message: "You are not subscribed to this service.",
		says: []string{"us-east-1", "regions that need opting in"}, long: true,
	},
	{
		name: "wrong credentials", action: "*", code: "AuthFailure", message: "AWS was not able to validate the provided access credentials",
		says: []string{"access credentials", "Check creds of the backend"},
	},
	{
		name: "the VPC is not found", action: "DescribeVpcs", code: "InvalidVpcID.NotFound", message: "The vpc ID 'vpc-1' does not exist",
		says: []string{"no default VPC in region us-east-1 (default_vpcs)", "Create a default VPC there"},
	},
	{
		name: "the subnet is not found", action: "RunInstances", code: "InvalidSubnetID.NotFound", message: "The subnet ID 'subnet-1' does not exist",
		says: []string{"subnet-1", "check vpc_name and vpc_ids"},
	},
	{
		name: "the image is not found", action: "RunInstances", code: "InvalidAMIID.NotFound", message: "The image id '[ami-1]' does not exist",
		says: []string{"ami-1", "os_images", "Name images there"},
	},
	{
		name: "a quota is used up", action: "RunInstances", code: "VcpuLimitExceeded",
		message: "You have requested more vCPU capacity than your current vCPU limit of 0 allows for the instance bucket",
		says:    []string{"vCPU limit", "Service Quotas"},
	},
	{
		name: "a permission is missing", action: "RunInstances", code: "UnauthorizedOperation",
		message: "You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/x is not authorized to perform: ec2:RunInstances on resource: arn:aws:ec2:us-east-1:123456789012:instance/*",
		says:    []string{"ec2:RunInstances", "Add it to the policy"},
	},
}

// TestRefusals looks at what a user reads of a refusal: at the run's end, among
// the events, and in the next plan.
func TestRefusals(t *testing.T) {
	for _, r := range refusals {
		if r.long && os.Getenv("E2E_LONG") == "" {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			s := newServer(t)
			if out := apply(t, s, "fleet", elastic); out.Exit != 0 {
				t.Fatalf("%+v", out)
			}
			before := shared.cloud.Rented()
			t.Cleanup(func() { calm(t) })
			fault := moto.Fault{Action: r.action, Code: r.code, Message: r.message, Status: http.StatusBadRequest, Times: 1000}
			if err := shared.cloud.Fault(fault); err != nil {
				t.Fatal(err)
			}
			submit(t, s, "refused", nil, "true")
			run, err := s.Finish(t.Context(), "refused", time.Minute)
			if err != nil || run.Status != api.RunFailed {
				t.Fatalf("%s, %v", run.Status, err)
			}
			for place, text := range map[string]string{"the run": told(run), "the events": timeline(events(t, s)), "the plan": planned(t, s)} {
				for _, part := range r.says {
					if !strings.Contains(text, part) {
						t.Errorf("%s does not say %q: %s", place, part, text)
					}
				}
				if strings.Contains(text, "123456789012") {
					t.Errorf("%s names the account: %s", place, text)
				}
			}
			empty(t, s)
			if got := shared.cloud.Rented() - before; got != 0 {
				t.Errorf("%d machines were rented", got)
			}
			t.Log(told(run))
		})
	}
}

// planned is what the plan of another run warns of.
func planned(t *testing.T, s *lab.Server) string {
	t.Helper()
	spec := map[string]any{"run_name": "another", "configuration": map[string]any{
		"type": "task", "image": lab.Busybox, "commands": []string{"true"},
		"resources": map[string]any{"cpu": "2..", "memory": "1GB..", "disk": "30GB.."},
	}}
	var plan api.RunPlan
	if err := s.Call(t.Context(), "project/main/runs/get_plan", map[string]any{"run_spec": spec}, &plan); err != nil {
		t.Fatal(err)
	}
	return strings.Join(plan.Warnings, "; ")
}
