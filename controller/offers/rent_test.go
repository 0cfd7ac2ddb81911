package offers

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"dstack/controller/backends"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/reason"
)

// sale is an offer of a cloud; the disk costs 1 USD for 1,000 GB and hour, an
// address half a cent.
func sale(region, name string, cpus, gpus int, spot bool, price float64) backends.Offer {
	o := backends.Offer{DiskMin: 30, DiskMax: 1000, DiskPrice: 0.001, AddressPrice: 0.005}
	o.Backend, o.Region, o.Price, o.Availability = "aws", region, price, "available"
	o.AvailabilityZones = []string{region + "a", region + "b"}
	arch, vendor := "x86", "nvidia"
	o.Instance = api.InstanceType{Name: name, Resources: api.Resources{CPUs: cpus, MemoryMiB: cpus * 4 << 10, Spot: spot, CPUArch: &arch, GPUs: []api.GPU{}}}
	for range gpus {
		o.Instance.Resources.GPUs = append(o.Instance.Resources.GPUs, api.GPU{Name: "L4", MemoryMiB: 24 << 10, Vendor: &vendor})
	}
	return o
}

func stock() []backends.Offer {
	return []backends.Offer{
		sale("us", "small", 2, 0, true, 0.03),
		sale("us", "small", 2, 0, false, 0.1),
		sale("eu", "small", 2, 0, false, 0.12),
		sale("us", "gpu", 8, 1, false, 1.5),
		sale("us", "gpus", 32, 8, false, 12),
	}
}

func atLeast[T int | float64](v T) config.Range[T] { return config.Range[T]{Min: &v} }

func TestRent(t *testing.T) {
	needs := func(change func(*Request, *config.Fleet)) (Request, store.Fleet) {
		req := Request{Requirements: api.Requirements{Spot: new(false), Resources: config.Resources{
			CPU: config.CPU{Count: atLeast(2)}, Memory: atLeast(8.0), Disk: &config.Disk{Size: atLeast(100.0)},
		}}}
		f := store.Fleet{Name: "fleet"}
		f.Spec.Configuration.Blocks.Count = 1
		change(&req, &f.Spec.Configuration)
		return req, f
	}
	for _, c := range []struct {
		name   string
		change func(*Request, *config.Fleet)
		want   []string // region/type/disk/price
		codes  []reason.Rejection
	}{
		{"on-demand is the default", func(*Request, *config.Fleet) {}, []string{
			"us/small/100/0.205", "eu/small/100/0.225", "us/gpu/100/1.605", "us/gpus/100/12.105",
		}, []reason.Rejection{reason.Spot}},
		{"spot of both", func(r *Request, f *config.Fleet) {
			r.Requirements.Spot, f.SpotPolicy = nil, new("auto")
		}, []string{"us/small/100/0.135", "us/small/100/0.205", "eu/small/100/0.225", "us/gpu/100/1.605", "us/gpus/100/12.105"}, nil},
		{"auto yields to the other", func(r *Request, f *config.Fleet) {
			r.Requirements.Spot, f.SpotPolicy = new(true), new("auto")
		}, []string{"us/small/100/0.135"}, slices.Repeat([]reason.Rejection{reason.Spot}, 4)},
		{"kinds that exclude each other", func(_ *Request, f *config.Fleet) { f.SpotPolicy = new("spot") },
			nil, slices.Repeat([]reason.Rejection{reason.Spot}, 5)},
		{"lists of both count", func(r *Request, f *config.Fleet) {
			r.Profile.Regions, f.Regions = []string{"US", "eu"}, []string{"us"}
			r.Profile.InstanceTypes = []string{"gpu", "small"}
			f.Backends = []string{"aws"}
		}, []string{"us/small/100/0.205", "us/gpu/100/1.605"}, []reason.Rejection{reason.Spot, reason.RegionNotAsked, reason.TypeNotAsked}},
		{"another backend", func(r *Request, _ *config.Fleet) { r.Profile.Backends = []string{"gcp"} },
			nil, slices.Repeat([]reason.Rejection{reason.BackendNotAsked}, 5)},
		{"the lower price of both, disk and address included", func(r *Request, f *config.Fleet) {
			r.Requirements.MaxPrice, f.MaxPrice = new(0.21), new(1.6)
		}, []string{"us/small/100/0.205"}, []reason.Rejection{reason.Spot, reason.PriceTooHigh, reason.PriceTooHigh, reason.PriceTooHigh}},
		{"resources of the fleet", func(_ *Request, f *config.Fleet) {
			f.Resources = &config.Resources{GPU: &config.GPU{Count: atLeast(2)}, Disk: &config.Disk{Size: atLeast(500.0)}}
		}, []string{"us/gpus/500/12.505"}, []reason.Rejection{reason.Spot, reason.GPUNone, reason.GPUNone, reason.GPUCount}},
		{"a disk that is too big", func(r *Request, _ *config.Fleet) { r.Requirements.Resources.Disk.Size = atLeast(1001.0) },
			nil, append([]reason.Rejection{reason.Spot}, slices.Repeat([]reason.Rejection{reason.Disk}, 4)...)},
		{"a disk that is smaller than the least", func(r *Request, _ *config.Fleet) {
			r.Requirements.Resources.Disk.Size = config.Range[float64]{Min: new(10.0), Max: new(40.0)}
			r.Profile.InstanceTypes = []string{"gpu"}
		}, []string{"us/gpu/30/1.535"}, nil},
		{"zones", func(r *Request, f *config.Fleet) {
			r.Profile.AvailabilityZones, f.AvailabilityZones = []string{"eua", "usb"}, []string{"eua"}
			r.Profile.InstanceTypes = []string{"small"}
			r.Requirements.Spot, f.SpotPolicy = nil, new("auto")
		}, []string{"eu/small/100/0.225"}, nil},
		{"a reservation that was not looked up", func(r *Request, f *config.Fleet) {
			r.Requirements.Reservation, f.Reservation, r.Profile.InstanceTypes = new("cr"), new("cr"), []string{"gpu"}
		}, []string{"us/gpu/100/1.605"}, nil},
		{"a generation of GPUs", func(r *Request, _ *config.Fleet) {
			r.Requirements.Resources.GPU = &config.GPU{Count: atLeast(1), ComputeCapability: []int{8, 9}}
		}, []string{"us/gpu/100/1.605", "us/gpus/100/12.105"}, []reason.Rejection{reason.Spot, reason.GPUNone, reason.GPUNone}},
		{"a later generation of GPUs", func(r *Request, _ *config.Fleet) {
			r.Requirements.Resources.GPU = &config.GPU{Count: atLeast(1), ComputeCapability: []int{9, 0}}
		}, nil, []reason.Rejection{reason.Spot, reason.GPUNone, reason.GPUNone, reason.GPUCapability, reason.GPUCapability}},
		{"all memory of the GPUs", func(r *Request, _ *config.Fleet) {
			r.Requirements.Resources.GPU = &config.GPU{Name: []string{"l4"}, Count: atLeast(1), TotalMemory: new(atLeast(48.0))}
		}, []string{"us/gpus/100/12.105"}, []reason.Rejection{reason.Spot, reason.GPUNone, reason.GPUNone, reason.GPUTotalMemory}},
		{"another CPU", func(r *Request, _ *config.Fleet) { r.Requirements.Resources.CPU.Arch = new("arm") },
			nil, append([]reason.Rejection{reason.Spot}, slices.Repeat([]reason.Rejection{reason.CPUArch}, 4)...)},
		{"two reservations", func(r *Request, f *config.Fleet) { r.Requirements.Reservation, f.Reservation = new("cr"), new("other") },
			nil, append([]reason.Rejection{reason.Spot}, slices.Repeat([]reason.Rejection{reason.Reservation}, 4)...)},
		{"a reservation", func(r *Request, f *config.Fleet) {
			f.Reservation, f.SpotPolicy, r.Requirements.Spot = new("cr"), new("auto"), nil
			r.Reserved = map[string]Reserved{"cr": {Backend: "aws", Region: "us", Zone: "usb", Type: "small", Free: 2}}
		}, []string{"us/small/100/0.205"}, slices.Repeat([]reason.Rejection{reason.Reservation}, 4)},
		{"a full reservation", func(r *Request, f *config.Fleet) {
			f.Reservation = new("cr")
			r.Reserved = map[string]Reserved{"cr": {Backend: "aws", Region: "us", Type: "small"}}
		}, nil, append([]reason.Rejection{reason.Spot}, slices.Repeat([]reason.Rejection{reason.Reservation}, 4)...)},
		{"a reservation that is not there", func(r *Request, f *config.Fleet) {
			f.Reservation, r.Reserved = new("cr"), map[string]Reserved{"cr": {Missing: "gone"}}
		}, nil, nil},
		{"blocks", func(_ *Request, f *config.Fleet) { f.Blocks.Count = 8 },
			[]string{"us/gpus/100/12.105"}, []reason.Rejection{reason.Spot, reason.Blocks, reason.Blocks, reason.Blocks}},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, fleet := needs(c.change)
			got, refused := Rent(req, fleet, stock())
			var have []string
			for _, r := range got {
				have = append(have, fmt.Sprintf("%s/%s/%d/%.5g", r.Offer.Region, r.Offer.Instance.Name, r.DiskGB, r.Offer.Price))
				if r.Fleet.Name != "fleet" {
					t.Errorf("a rental of fleet %q", r.Fleet.Name)
				}
			}
			if strings.Join(have, " ") != strings.Join(c.want, " ") {
				t.Errorf("got  %q\nwant %q", have, c.want)
			}
			if c.codes == nil {
				return
			}
			var codes []reason.Rejection
			for _, r := range refused {
				codes = append(codes, r.Code)
			}
			slices.Sort(codes)
			slices.Sort(c.codes)
			if !slices.Equal(codes, c.codes) {
				t.Errorf("refused for %q, want %q", codes, c.codes)
			}
		})
	}
}

// TestRentUnknownZones is about accounts that may not ask for zones.
func TestRentUnknownZones(t *testing.T) {
	list := stock()
	for i := range list {
		list[i].AvailabilityZones = nil
	}
	if got, refused := Rent(Request{}, store.Fleet{}, list); len(got) != 4 || got[0].Zones != nil {
		t.Errorf("no zones are asked for: %+v, refused %+v", got, refused)
	}
	req := Request{}
	req.Profile.AvailabilityZones = []string{"eua", "EUb", "sa"}
	got, _ := Rent(req, store.Fleet{}, list)
	if len(got) != 1 || got[0].Offer.Region != "eu" || !slices.Equal(got[0].Zones, []string{"eua", "EUb"}) {
		t.Errorf("zones are asked for: %+v", got)
	}
}

func TestRentWhatIsThere(t *testing.T) {
	list := stock()
	list[1].Availability = "not_available"
	got, _ := Rent(Request{Requirements: api.Requirements{Spot: new(false)}}, store.Fleet{}, list)
	if first, last := got[0].Offer.Region, got[len(got)-1].Offer; first != "eu" || last.Region != "us" || last.Instance.Name != "small" {
		t.Errorf("the cheapest is not to be had, but the order is %+v", got)
	}
	if got[0].DiskGB != 100 {
		t.Errorf("nobody asked for a disk, and it has %d GB", got[0].DiskGB)
	}
	own := sale("us", "metal", 8, 0, false, 1)
	own.DiskMin, own.DiskMax = 0, 0
	own.Instance.Resources.Disk.SizeMiB = 50 << 10
	req := Request{Requirements: api.Requirements{Resources: config.Resources{Disk: &config.Disk{Size: atLeast(100.0)}}}}
	if got, refused := Rent(req, store.Fleet{}, []backends.Offer{own}); len(got) > 0 || refused[0].Reason != "has a disk of 50GB" {
		t.Errorf("a machine with its own disk: %+v %+v", got, refused)
	}
}

// TestReservationWithoutPrice says why what is reserved is not offered.
func TestReservationWithoutPrice(t *testing.T) {
	t.Parallel()
	req := Request{Reserved: map[string]Reserved{"cr": {Backend: "aws", Region: "us", Type: "p5e.48xlarge", Free: 1}}}
	var fleet store.Fleet
	fleet.Spec.Configuration.Reservation = new("cr")
	_, refused := Rent(req, fleet, stock())
	const want = "reservation cr is for p5e.48xlarge in us, which is not offered because it has no price: name one in the catalogue (DSTACK_SERVER_CATALOG)"
	if text := Summary(refused); !strings.Contains(text, want) {
		t.Errorf("%s", text)
	}
}
