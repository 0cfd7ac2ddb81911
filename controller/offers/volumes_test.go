package offers

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/reason"
)

// disk is a volume of the project p1.
func disk(name, zone string) store.Volume {
	return store.Volume{
		ID: name, ProjectID: "p1", UserID: "u", Name: name, Status: api.VolumeActive,
		Configuration: config.Volume{Type: "volume", Backend: "aws", Region: zone[:len(zone)-1]},
		Provisioning:  &api.VolumeProvisioningData{VolumeID: "vol-" + name, AvailabilityZone: &zone},
	}
}

// machine is an instance of the project p1 in a zone.
func machine(name, zone string) store.Instance {
	i := host(name)
	i.ProjectID, i.FleetID, i.Backend, i.Region = "p1", "f", "aws", zone[:len(zone)-1]
	i.Machine = &store.Machine{Backend: "aws", ID: "i-" + name, Zone: zone}
	return i
}

func mount(names ...string) config.Mount { return config.Mount{Names: names, Path: "/" + names[0]} }

// TestLoadVolumes finds the places where each mount has a volume.
func TestLoadVolumes(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.Context(), store.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	failed, going := disk("failed", "us1a"), disk("going", "us1a")
	failed.Status, going.Deleting = api.VolumeFailed, true
	err = s.Write(t.Context(), func(tx *store.Tx) error {
		for _, do := range []error{
			tx.InsertUser(&store.User{ID: "u", Name: "u"}), tx.InsertProject(&store.Project{ID: "p1", Name: "p", OwnerID: "u"}),
			tx.InsertFleet(&store.Fleet{ID: "f", ProjectID: "p1", Name: "f"}),
		} {
			if do != nil {
				return do
			}
		}
		for n, name := range []string{"m1", "m2"} {
			in := machine(name, "us1a")
			in.Num = n
			if err := tx.InsertInstance(&in); err != nil {
				return err
			}
		}
		for _, v := range []store.Volume{
			disk("a1", "us1a"), disk("a2", "us1a"), disk("b1", "us1b"), disk("b2", "us1b"), disk("held", "us1a"), disk("leaving", "us1a"), failed, going,
		} {
			if err := tx.InsertVolume(&v); err != nil {
				return err
			}
		}
		if err := tx.PutAttachment(&store.VolumeAttachment{VolumeID: "leaving", InstanceID: "m2", DetachAt: ptr(time.Unix(1, 0))}); err != nil {
			return err
		}
		return tx.PutAttachment(&store.VolumeAttachment{VolumeID: "held", InstanceID: "m1"})
	})
	if err != nil {
		t.Fatal(err)
	}
	site := func(zone string, names ...string) Site {
		return Site{Backend: "aws", Region: "us1", Zone: zone, Names: names}
	}
	for name, tt := range map[string]struct {
		mounts []config.Mount
		want   *Volumes
	}{
		"none":             {[]config.Mount{{InstancePath: "/a", Path: "/b"}}, nil},
		"one":              {[]config.Mount{mount("a1"), {InstancePath: "/a", Path: "/b"}}, &Volumes{Sites: []Site{site("us1a", "a1")}}},
		"one of two zones": {[]config.Mount{mount("b1", "a1")}, &Volumes{Sites: []Site{site("us1b", "b1"), site("us1a", "a1")}}},
		"the first of a zone": {
			[]config.Mount{mount("a2", "a1", "b1"), mount("b2")}, &Volumes{Sites: []Site{site("us1b", "b1", "b2")}},
		},
		"in no place together": {[]config.Mount{mount("a1"), mount("b1")}, &Volumes{}},
		"a free one first":     {[]config.Mount{mount("held", "a1")}, &Volumes{Sites: []Site{site("us1a", "a1")}}},
		"held": {[]config.Mount{mount("a1"), mount("held")}, &Volumes{Sites: []Site{
			{Backend: "aws", Region: "us1", Zone: "us1a", Names: []string{"a1", "held"}, Holder: "m1", Why: "its volume held is attached to m1"},
		}}},
		"leaving": {[]config.Mount{mount("leaving")}, &Volumes{Sites: []Site{
			{Backend: "aws", Region: "us1", Zone: "us1a", Names: []string{"leaving"}, Busy: true, Why: "its volume leaving is being detached from m2"},
		}}},
		"twice":   {[]config.Mount{mount("a1"), mount("a1")}, &Volumes{Broken: "Cannot attach the same volume at different mount points"}},
		"unknown": {[]config.Mount{mount("a1"), mount("x")}, &Volumes{Broken: "Volume x not found"}},
		"failed":  {[]config.Mount{mount("failed")}, &Volumes{Broken: "Volume failed is not active and cannot be mounted"}},
		"going":   {[]config.Mount{mount("going")}, &Volumes{Broken: "Volume going is marked for deletion and cannot be mounted"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := s.Read(t.Context(), func(tx *store.Tx) error {
				got, err := LoadVolumes(tx, "p1", tt.mounts)
				if tt.want != nil {
					tt.want.ProjectID = "p1"
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBesideVolumes tells instances and offers where the volumes are from others.
func TestBesideVolumes(t *testing.T) {
	t.Parallel()
	here := Site{Backend: "aws", Region: "us", Zone: "usa", Names: []string{"v"}}
	held, leaving, whole := here, here, here
	held.Holder, held.Why = "m1", "its volume v is attached to m1"
	leaving.Busy, leaving.Why = true, "its volume v is being detached from m1"
	whole.Zone = ""
	foreign := machine("m3", "usa")
	foreign.ProjectID = "p2"
	for name, tt := range map[string]struct {
		site  Site
		zones string // of the offer in us, which has usa and usb
		// codes are what m1 and m2 in usa, m3 of another project, m4 in usb, a host and the offers get
		codes [5]reason.Rejection
		offer reason.Rejection
	}{
		"free":         {here, "usa", [5]reason.Rejection{"", "", reason.VolumeElsewhere, reason.VolumeElsewhere, reason.VolumeElsewhere}, ""},
		"held":         {held, "", [5]reason.Rejection{"", reason.VolumeBusy, reason.VolumeElsewhere, reason.VolumeElsewhere, reason.VolumeElsewhere}, reason.VolumeBusy},
		"leaving":      {leaving, "", [5]reason.Rejection{reason.VolumeBusy, reason.VolumeBusy, reason.VolumeElsewhere, reason.VolumeElsewhere, reason.VolumeElsewhere}, reason.VolumeBusy},
		"whole region": {whole, "usa,usb", [5]reason.Rejection{"", "", reason.VolumeElsewhere, "", reason.VolumeElsewhere}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := &Volumes{ProjectID: "p1", Sites: []Site{tt.site}}
			for n, inst := range []store.Instance{machine("m1", "usa"), machine("m2", "usa"), foreign, machine("m4", "usb"), host("h")} {
				if got := v.refuse(inst); got.code != tt.codes[n] {
					t.Errorf("%s: %v, want %s", inst.ID, got, tt.codes[n])
				}
			}
			req := Request{Requirements: api.Requirements{Spot: new(false)}, Volumes: v}
			f := store.Fleet{}
			f.Spec.Configuration.Blocks.Count = 1
			rentals, refused := Rent(req, f, stock()[1:3])
			if tt.offer == "" {
				if len(rentals) != 1 || rentals[0].Offer.Region != "us" || strings.Join(zonesOf(rentals[0]), ",") != tt.zones {
					t.Fatalf("rentals %+v", rentals)
				}
			} else if len(rentals) > 0 || refused[0].Code != tt.offer {
				t.Errorf("rentals %+v, refused %+v", rentals, refused)
			}
			if last := refused[len(refused)-1]; last.Code != reason.VolumeElsewhere || last.Offer.Region != "eu" {
				t.Errorf("the other region: %+v", last)
			}
			if free := v.Free(); free.Taken() != "" || len(tt.site.Why) > 0 && v.Taken() == "" {
				t.Errorf("taken: %q, without users %q", v.Taken(), free.Taken())
			}
		})
	}
	v := &Volumes{ProjectID: "p1", Sites: []Site{here}}
	req := Request{Requirements: api.Requirements{Spot: new(false)}, Volumes: v, Profile: config.ProfileParams{AvailabilityZones: []string{"usb"}}}
	if rentals, _ := Rent(req, store.Fleet{}, stock()[1:2]); len(rentals) > 0 {
		t.Errorf("a zone without the volume: %+v", rentals)
	}
	v = &Volumes{Broken: "Volume v not found"}
	if got := v.refuse(machine("m1", "usa")); got.code != reason.VolumeUnusable || got.text != v.Broken {
		t.Errorf("a volume that is not there: %v", got)
	}
}

// zonesOf are those that the rental allows.
func zonesOf(r Rental) []string {
	if r.Zones == nil {
		return r.Offer.AvailabilityZones
	}
	return r.Zones
}

// TestPlaceByVolumes gives each node the host where its own volume can be.
func TestPlaceByVolumes(t *testing.T) {
	t.Parallel()
	p := fleet("f", machine("m1", "usa"), machine("m2", "usb"))
	p.Fleet.Spec.Configuration.Placement = ptr(config.PlacementCluster)
	p.Instances[0].InternalIP, p.Instances[1].InternalIP = ptr("10.0.0.1"), ptr("10.0.0.2")
	var reqs []Request
	for _, zone := range []string{"usb", "usa"} {
		reqs = append(reqs, Request{Nodes: 2, Volumes: &Volumes{ProjectID: "p1", Sites: []Site{{Backend: "aws", Region: "us", Zone: zone, Names: []string{"v" + zone}}}}})
	}
	got, res := Place(reqs, []Pool{p})
	if len(got) != 2 {
		t.Fatalf("no room: %s", res.Explain())
	}
	if names := []string{got[0].Instance.ID, got[1].Instance.ID}; !slices.Equal(names, []string{"m2", "m1"}) {
		t.Errorf("placed on %v", names)
	}
}
