//go:build e2e

package aws

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"dstack/controller/backends"
	"dstack/controller/backends/contracttest"
	"dstack/protocol/config"
	"dstack/test/cloudlab/moto"
)

const testRegion = "us-east-1"

// actions are the calls behind the operations of the contract.
var actions = map[string]string{
	"create": "RunInstances", "describe": "DescribeInstances", "delete": "TerminateInstances", "list": "DescribeInstances",
}

// codes are what AWS says for each kind.
var codes = map[backends.Kind]moto.Fault{
	backends.NoCapacity: {Code: "InsufficientInstanceCapacity", Status: 500},
	backends.Quota:      {Code: "VcpuLimitExceeded"},
	backends.Auth:       {Code: "AuthFailure", Status: 401},
	backends.Permission: {Code: "UnauthorizedOperation", Status: 403},
	backends.Throttled:  {Code: "RequestLimitExceeded", Status: 503},
	backends.BadRequest: {Code: "InvalidParameterValue"},
	backends.Transient:  {Code: "InternalError", Status: 500},
}

func account(t *testing.T, b *config.AWSBackend) *Account {
	t.Helper()
	b.Creds = &config.AWSCreds{Type: config.CredsAccessKey, AccessKey: "key", SecretKey: "secret"}
	cfg, err := load(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	a := open(cfg, b, time.Now)
	a.page = 5
	return a
}

// TestMoto runs everything against one double, since it takes seconds to start.
func TestMoto(t *testing.T) {
	double := moto.Start(t)
	t.Setenv("AWS_ENDPOINT_URL", double.URL)
	for _, c := range []struct {
		name string
		test func(*testing.T, *moto.Double)
	}{
		{"contract", contract}, {"zones", zones}, {"spent tokens", spent}, {"validate", validate}, {"narrow permissions", narrow}, {"reservation", reserved},
		{"spot", spot}, {"several interfaces", severalInterfaces}, {"addresses that are left", leftAddresses}, {"experimental types", experimental},
	} {
		t.Run(c.name, func(t *testing.T) {
			double.Reset(t)
			c.test(t, double)
			if c.name != "validate" { // who we are may be asked by everybody, and the instance profile with iam:GetInstanceProfile
				mustBeGranted(t, double)
			}
		})
	}
}

func contract(t *testing.T, double *moto.Double) {
	contracttest.Run(t, func(t *testing.T) contracttest.Harness {
		double.Reset(t)
		t.Cleanup(func() { mustBeGranted(t, double) })
		a := account(t, &config.AWSBackend{Regions: []string{testRegion, "eu-west-1"}})
		return contracttest.Harness{
			Backend: a,
			Spec:    backends.MachineSpec{Region: testRegion, Type: "c5.large", DiskGB: 50, Zones: []string{testRegion + "a"}},
			Inject: func(f contracttest.Fault) bool {
				fault, known := codes[f.Kind]
				fault.Action, fault.Lost = actions[f.Op], f.Lost
				double.Inject(t, fault)
				return known
			},
			Settle: func() { double.Hide(t, false) },
			Delay:  func() { double.Hide(t, true) },
			UserData: func(t *testing.T, id string) string {
				t.Helper()
				out, err := a.regions[testRegion].ec2.DescribeInstanceAttribute(t.Context(), &ec2.DescribeInstanceAttributeInput{
					Attribute: types.InstanceAttributeNameUserData, InstanceId: &id,
				})
				if err != nil {
					t.Fatal(err)
				}
				text, err := base64.StdEncoding.DecodeString(awssdk.ToString(out.UserData.Value))
				if err != nil {
					t.Fatal(err)
				}
				return string(text)
			},
		}
	})
}

func zones(t *testing.T, double *moto.Double) {
	full := moto.Fault{Action: "RunInstances", Code: "InsufficientInstanceCapacity", Status: 500}
	for _, c := range []struct {
		name   string
		faults []moto.Fault
		zone   string
		kind   backends.Kind
	}{
		{name: "the first zone", zone: "a"},
		{name: "two zones are full", faults: []moto.Fault{full, full}, zone: "c"},
		{name: "a zone lacks the type", faults: []moto.Fault{{Action: "RunInstances", Code: "Unsupported"}}, zone: "b"},
		{name: "no zone has any", faults: []moto.Fault{{Action: full.Action, Code: full.Code, Status: 500, Times: 6}}, kind: backends.NoCapacity},
		{
			name:   "a quota counts in all zones",
			faults: []moto.Fault{{Action: "RunInstances", Code: "VcpuLimitExceeded"}}, kind: backends.Quota,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			double.Reset(t)
			a := account(t, &config.AWSBackend{Regions: []string{testRegion}})
			for _, f := range c.faults {
				double.Inject(t, f)
			}
			spec := backends.MachineSpec{Token: "token", Region: testRegion, Type: "c5.large", DiskGB: 50}
			m, err := a.Create(t.Context(), spec)
			if c.kind != "" {
				if !errors.Is(err, c.kind) {
					t.Fatalf("want %s, got %v", c.kind, err)
				}
				return
			}
			if err != nil || m.Zone != testRegion+c.zone || m.Token != "token" {
				t.Fatalf("%+v, %v", m, err)
			}
			again, err := a.Create(t.Context(), spec)
			if err != nil || again.ID != m.ID {
				t.Errorf("the token made %s, too: %v", again.ID, err)
			}
			byToken, err := a.Describe(t.Context(), backends.Ref{Token: "token", Region: testRegion})
			if err != nil || byToken.ID != m.ID {
				t.Errorf("by token: %+v, %v", byToken, err)
			}
		})
	}
}

// spent has a refusal use the token up; then the answer of the next zone is
// lost, what it made is not shown, and the first one has room again.
func spent(t *testing.T, double *moto.Double) {
	a := account(t, &config.AWSBackend{Regions: []string{testRegion}})
	double.Inject(t, moto.Fault{Action: "RunInstances", Code: "InsufficientInstanceCapacity", Status: 500, Spends: true})
	spec := backends.MachineSpec{Token: "token", Region: testRegion, Type: "c5.large", DiskGB: 50}
	_, err := a.Create(t.Context(), spec)
	var refused *backends.Error
	if !errors.As(err, &refused) || refused.Kind != backends.NoCapacity || len(refused.Zones) != 5 || refused.Zones[0] != testRegion+"b" {
		t.Fatalf("%+v", err)
	}
	double.Inject(t, moto.Fault{Action: "RunInstances", Lost: true})
	double.Hide(t, true)
	spec.Token, spec.Zones = "another", refused.Zones
	if _, err = a.Create(t.Context(), spec); !errors.Is(err, backends.Transient) {
		t.Fatalf("the answer that was lost: %v", err)
	}
	m, err := a.Create(t.Context(), spec)
	if err != nil || m.Zone != testRegion+"b" || m.Token != "another" {
		t.Fatalf("%+v, %v", m, err)
	}
	double.Hide(t, false)
	all, err := instances(t.Context(), a.regions[testRegion], &ec2.DescribeInstancesInput{})
	if err != nil || len(all) != 1 {
		t.Errorf("%d machines, %v", len(all), err)
	}
}

func validate(t *testing.T, double *moto.Double) {
	refused := func(action, code string) *moto.Fault { return &moto.Fault{Action: action, Code: code, Status: 403} }
	for _, c := range []struct {
		name    string
		backend config.AWSBackend
		fault   *moto.Fault
		field   string
		creds   bool
		says    string
	}{
		{name: "good"},
		{name: "wrong key", fault: refused("GetCallerIdentity", "InvalidClientTokenId"), field: "creds", creds: true, says: "creds"},
		{name: "clock", fault: refused("GetCallerIdentity", "RequestExpired"), says: "clock"},
		{name: "no profile", backend: config.AWSBackend{IAMInstanceProfile: new("none")}, field: "iam_instance_profile", says: "none not found"},
		{
			name: "no VPC", backend: config.AWSBackend{VPCIDs: map[string]string{testRegion: "vpc-0"}},
			field: "vpc_ids." + testRegion, says: "no VPC vpc-0 in region " + testRegion,
		},
		{name: "no VPC of that name", backend: config.AWSBackend{VPCName: new("lan")}, field: "vpc_name", says: "no VPC named lan"},
		{name: "no private subnets", backend: config.AWSBackend{PublicIPs: new(false)}, field: "public_ips", says: "no private subnet"},
		{name: "permission", fault: refused("DescribeVpcs", "UnauthorizedOperation"), says: "ec2:DescribeVpcs"},
		{
			name: "both", backend: config.AWSBackend{VPCName: new("lan"), VPCIDs: map[string]string{testRegion: "vpc-0"}},
			field: "vpc_name", says: "Only one of vpc_name and vpc_ids",
		},
		{name: "no VPC at all", backend: config.AWSBackend{DefaultVPCs: new(false)}, field: "default_vpcs", says: "must be set"},
		{
			name: "a region without VPC", backend: config.AWSBackend{DefaultVPCs: new(false), VPCIDs: map[string]string{"eu-west-1": "vpc-0"}},
			field: "vpc_ids", says: "no VPC for region " + testRegion,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			double.Reset(t)
			if c.fault != nil {
				double.Inject(t, *c.fault)
			}
			b := c.backend
			b.Regions = []string{testRegion}
			b.Creds = &config.AWSCreds{Type: config.CredsAccessKey, AccessKey: "key", SecretKey: "secret"}
			err := Driver{}.Validate(t.Context(), config.Backend{Type: Type, Config: &b})
			if c.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var invalid *backends.Invalid
			if !errors.As(err, &invalid) {
				t.Fatalf("%v", err)
			}
			if strings.Join(invalid.Field, ".") != c.field || invalid.Credentials != c.creds || !strings.Contains(invalid.Message, c.says) {
				t.Errorf("%+v", invalid)
			}
		})
	}
}

// granted are the permissions that 0.22.5 asks its users for (backends.md
// 1.10), as far as they are of EC2 and Service Quotas.
var granted = strings.Fields(`AllocateAddress AssociateAddress AttachVolume AuthorizeSecurityGroupEgress
	AuthorizeSecurityGroupIngress CancelSpotInstanceRequests CreatePlacementGroup CreateSecurityGroup CreateTags CreateVolume
	DeletePlacementGroup DeleteVolume DescribeAddresses DescribeAvailabilityZones DescribeCapacityReservations DescribeImages
	DescribeInstanceAttribute DescribeInstanceTypes DescribeInstances DescribeRouteTables DescribeSecurityGroups DescribeSubnets
	DescribeVolumes DescribeVpcs DetachVolume DisassociateAddress ReleaseAddress RunInstances TerminateInstances
	GetServiceQuota ListServiceQuotas`)

// optional are those that the driver can go without: see narrow.
var optional = []string{"DescribeSpotPriceHistory", "DescribeInstanceTypeOfferings", "GetProducts"}

// mustBeGranted fails if the driver called what users need not have granted.
func mustBeGranted(t *testing.T, double *moto.Double) {
	t.Helper()
	for _, action := range double.Actions(t) {
		if !slices.Contains(granted, action) && !slices.Contains(optional, action) {
			t.Errorf("%s is not among the permissions that users have granted", action)
		}
	}
}

// narrow has the permissions of 0.22.5 alone.
func narrow(t *testing.T, double *moto.Double) {
	// Addresses are of machines with several EFA interfaces alone: who rents none grants none.
	for _, action := range append(slices.Clone(optional), "GetServiceQuota", "DescribeAddresses") {
		f := moto.Fault{Action: action, Code: "UnauthorizedOperation", Status: 403, Times: 100}
		double.Inject(t, f)
	}
	a := account(t, &config.AWSBackend{Regions: []string{testRegion}})
	if loose, err := a.LooseAddresses(t.Context(), "me"); err != nil || len(loose) > 0 {
		t.Errorf("addresses: %+v, %v", loose, err)
	}
	got, err := a.Offers(t.Context())
	if err != nil || len(got) == 0 {
		t.Fatalf("%d offers, %v", len(got), err)
	}
	for _, o := range got {
		want := "pricing:GetProducts"
		if o.Instance.Resources.Spot {
			want = "ec2:DescribeSpotPriceHistory"
		}
		if !strings.Contains(o.PriceSource, want) || o.Availability != "unknown" {
			t.Fatalf("%s, %s: %s", o.Instance.Name, o.Availability, o.PriceSource)
		}
	}
}

func reserved(t *testing.T, double *moto.Double) {
	double.Reserve(t, moto.Reservation{ID: "cr-1", Zone: "eu-west-1b", Type: "c5.large", Free: 2})
	a := account(t, &config.AWSBackend{Regions: []string{testRegion, "eu-west-1"}})
	want := backends.Reservation{ID: "cr-1", Region: "eu-west-1", Zone: "eu-west-1b", Type: "c5.large", Free: 2}
	if got, err := a.FindReservation(t.Context(), "cr-1"); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := a.FindReservation(t.Context(), "cr-2"); !errors.Is(err, backends.NotFound) {
		t.Errorf("one that does not exist: %v", err)
	}
	m, err := a.Create(t.Context(), backends.MachineSpec{Token: "t", Region: "eu-west-1", Type: "c5.large", DiskGB: 30, Reservation: "cr-1"})
	if err != nil || m.Zone != "eu-west-1b" {
		t.Errorf("%+v, %v", m, err)
	}
}

func spot(t *testing.T, _ *moto.Double) {
	a := account(t, &config.AWSBackend{Regions: []string{testRegion}})
	m, err := a.Create(t.Context(), backends.MachineSpec{Token: "t", Region: testRegion, Type: "c5.large", DiskGB: 30, Spot: true})
	if err != nil || !m.Spot {
		t.Errorf("%+v, %v", m, err)
	}
}

// experimental types are not in the table: what they have is AWS's word.
func experimental(t *testing.T, _ *moto.Double) {
	a := account(t, &config.AWSBackend{Regions: []string{testRegion}, ExperimentalInstanceTypes: []string{"g4ad.xlarge", "c6i.large", "nonsense"}})
	a.known.answers["prices/"+testRegion] = answer{
		value: priceList{prices: map[string]priced{"c6i.large": {usd: 0.085, source: "test"}}}, until: time.Now().Add(time.Hour),
	}
	got, err := a.Offers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, o := range got {
		switch o.Instance.Name {
		case "c6i.large":
			found++
			if r := o.Instance.Resources; r.CPUs != 2 || r.MemoryMiB != 4096 || *r.CPUArch != "x86" || o.Price <= 0 {
				t.Errorf("%+v", o)
			}
		case "g4ad.xlarge", "nonsense":
			t.Errorf("offered without a price: %+v", o)
		}
	}
	if found != 2 {
		t.Errorf("c6i.large is offered %d times, want on demand and spot", found)
	}
}
