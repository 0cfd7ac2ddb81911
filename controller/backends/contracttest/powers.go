package contracttest

import (
	"errors"
	"testing"

	"dstack/controller/backends"
)

func volumes(t *testing.T, h Harness) {
	power, ok := backends.VolumesOf(h.Backend)
	if !ok {
		return // the table of capabilities says so
	}
	ctx, m := t.Context(), h.create(t, "token-1")
	h.Settle()
	zone := h.describe(t, m.Ref).Zone
	wish := backends.VolumeSpec{
		Token: "volume-1", Name: "contract", Region: h.Spec.Region, Zone: zone, SizeGB: 10,
		Tags: map[string]string{backends.TagServer: server},
	}
	v, err := power.CreateVolume(ctx, wish)
	if err != nil || v.ID == "" || v.SizeGB != 10 || v.Zone != zone {
		t.Fatalf("create volume: %+v, %v", v, err)
	}
	if again, err := power.CreateVolume(ctx, wish); err != nil || again.ID != v.ID {
		t.Errorf("one token made %s and %s: %v", v.ID, again.ID, err)
	}
	for range 2 {
		device, err := power.AttachVolume(ctx, v.VolumeRef, m.Ref)
		if err != nil || device == "" {
			t.Fatalf("attach volume: %q, %v", device, err)
		}
	}
	listedVolumes(t, h, v)
	if got, err := power.DescribeVolume(ctx, v.VolumeRef); err != nil || len(got.Attached) != 1 || got.Attached[0] != m.ID {
		t.Errorf("attached volume: %+v, %v", got, err)
	}
	if err := power.DeleteVolume(ctx, v.VolumeRef); !errors.Is(err, backends.NotReady) {
		t.Errorf("delete of an attached volume: %v", err)
	}
	for range 2 {
		if err := power.DetachVolume(ctx, v.VolumeRef, m.Ref, false); err != nil {
			t.Fatalf("detach volume: %v", err)
		}
		h.Settle()
	}
	if got, err := power.DescribeVolume(ctx, v.VolumeRef); err != nil || len(got.Attached) > 0 {
		t.Errorf("detached volume: %+v, %v", got, err)
	}
	for range 2 {
		if err := power.DeleteVolume(ctx, v.VolumeRef); err != nil {
			t.Errorf("delete volume: %v", err)
		}
		h.Settle()
	}
	if _, err := power.DescribeVolume(ctx, v.VolumeRef); !errors.Is(err, backends.NotFound) {
		t.Errorf("deleted volume: %v", err)
	}
}

// listedVolumes: the volume is listed for its server alone, and no disk of a
// machine is.
func listedVolumes(t *testing.T, h Harness, want backends.Volume) {
	t.Helper()
	power, ok := backends.RemainsOf(h.Backend)
	if !ok {
		return
	}
	got, err := power.ListVolumes(t.Context(), server)
	if err != nil || len(got) != 1 || got[0].ID != want.ID || got[0].Token != want.Token || got[0].SizeGB != want.SizeGB || got[0].CreatedAt.IsZero() {
		t.Errorf("listed volumes: %+v, %v", got, err)
	}
	if got, err := power.ListVolumes(t.Context(), other); err != nil || len(got) > 0 {
		t.Errorf("listed volumes of another server: %+v, %v", got, err)
	}
	if got, err := power.LooseAddresses(t.Context(), server); err != nil || len(got) > 0 {
		t.Errorf("loose addresses: %+v, %v", got, err)
	}
}

func groups(t *testing.T, h Harness) {
	power, ok := backends.PlacementGroupsOf(h.Backend)
	if !ok {
		return
	}
	ctx := t.Context()
	const name = "dstack-contract"
	for range 2 {
		err := power.CreatePlacementGroup(ctx, name, h.Spec.Region, h.Spec.Type, nil)
		if errors.Is(err, backends.Unsupported) {
			return
		}
		if err != nil {
			t.Fatalf("create placement group: %v", err)
		}
	}
	wish := h.wish("token-1")
	wish.PlacementGroup = name
	m, err := h.Backend.Create(ctx, wish)
	if err != nil {
		t.Fatalf("create in placement group: %v", err)
	}
	if err := power.DeletePlacementGroup(ctx, name, h.Spec.Region); !errors.Is(err, backends.NotReady) {
		t.Errorf("delete of a placement group in use: %v", err)
	}
	if err := h.Backend.Delete(ctx, m.Ref); err != nil {
		t.Fatalf("delete: %v", err)
	}
	h.Settle()
	for range 2 {
		if err := power.DeletePlacementGroup(ctx, name, h.Spec.Region); err != nil {
			t.Errorf("delete placement group: %v", err)
		}
	}
}
