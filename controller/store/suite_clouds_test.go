package store

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

func testGateway() Gateway {
	return Gateway{
		ID: "g1", ProjectID: "p1", Name: "gw", Configuration: config.Gateway{Type: "gateway", Name: ptr("gw"), Backend: "aws", Region: "r", PublicIP: true},
		Status: api.GatewaySubmitted, StatusMessage: ptr("m"), Hostname: ptr("h"), CreatedAt: at(1), LastProcessedAt: at(2),
	}
}

func testVolume() Volume {
	return Volume{
		ID: "v1", ProjectID: "p1", UserID: "u1", Name: "data",
		Configuration: config.Volume{Type: "volume", Backend: "aws", Name: ptr("data"), Size: ptr(1.5), Region: "r"},
		Status:        api.VolumeSubmitted, CreatedAt: at(1), LastProcessedAt: at(1), Provisioning: &api.VolumeProvisioningData{VolumeID: "vol-1", Price: ptr(2.0)},
		Token: "t", Formatted: true,
	}
}

func testGateways(t *testing.T, s *Store) {
	g := testGateway()
	replica := GatewayReplica{ID: "gr1", GatewayID: "g1", Backend: "aws", CreatedAt: at(3), Status: api.ReplicaRunning, Hostname: ptr("1.2.3.4")}
	write(t, s, func(tx *Tx) error {
		return errors.Join(seed(tx), tx.InsertGateway(&g), tx.InsertGatewayReplica(&replica), tx.SetDefaultGateway("p1", "g1"))
	})
	taken := testGateway()
	taken.ID = "g2"
	if err := s.Write(t.Context(), func(tx *Tx) error { return tx.InsertGateway(&taken) }); !errors.Is(err, ErrExists) {
		t.Errorf("a taken name: %v", err)
	}
	stale := g
	g.Deleting = true
	write(t, s, func(tx *Tx) error { return tx.UpdateGateway(&g) })
	if err := s.Write(t.Context(), func(tx *Tx) error { return tx.UpdateGateway(&stale) }); !errors.Is(err, ErrConflict) {
		t.Errorf("an old version: %v", err)
	}
	read(t, s, func(tx *Tx) error {
		def, err := tx.DefaultGateway("p1")
		if def != "g1" {
			t.Errorf("default %q", def)
		}
		return errors.Join(err,
			same(t, "gateway", g)(tx.GatewayByName("p1", "gw")),
			same(t, "gateways", []Gateway{g})(tx.Gateways("p1")),
			same(t, "names", []string{"gw"})(tx.GatewayNames("p1", "g")),
			same(t, "replicas", []GatewayReplica{replica})(tx.GatewayReplicas([]string{"g1"})))
	})
	write(t, s, func(tx *Tx) error { return tx.DeleteGateway("g1") })
	read(t, s, func(tx *Tx) error {
		def, err := tx.DefaultGateway("p1")
		if def != "" {
			t.Errorf("default %q of a gateway that is gone", def)
		}
		return errors.Join(err, same(t, "replicas", []GatewayReplica{})(tx.GatewayReplicas([]string{"g1"})))
	})
}

func testVolumes(t *testing.T, s *Store) {
	v := testVolume()
	write(t, s, func(tx *Tx) error { return errors.Join(seed(tx), tx.InsertVolume(&v)) })
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "volume", v)(tx.VolumeByName("p1", "data")),
			same(t, "volumes", []Volume{v})(tx.Volumes(VolumeFilter{ProjectIDs: []string{"p1"}, OnlyActive: true, Page: Page{Limit: 1}})),
			same(t, "use of aws", "volumes")(tx.BackendUse("p1", "aws")),
			same(t, "use of gcp", "")(tx.BackendUse("p1", "gcp")),
			same(t, "use of remote", "instances")(tx.BackendUse("p1", "remote")),
			same(t, "names", []string{"data"})(tx.VolumeNames("p1", "d")))
	})
	v.Provisioning = nil // its cloud was asked, and no answer came
	write(t, s, func(tx *Tx) error { return tx.UpdateVolume(&v) })
	read(t, s, func(tx *Tx) error { return same(t, "use of aws", "volumes")(tx.BackendUse("p1", "aws")) })
	attached := VolumeAttachment{VolumeID: "v1", InstanceID: "i1", WantedAt: at(3)}
	v.Deleting, v.Deleted, v.DeletedAt, v.LastUsedAt = true, true, ptr(at(5)), ptr(at(4))
	write(t, s, func(tx *Tx) error { return errors.Join(tx.UpdateVolume(&v), tx.PutAttachment(&attached)) })
	attached.Device, attached.Trouble, attached.Failed, attached.DetachAt, attached.ForceAt = ptr("/dev/x"), "busy", true, ptr(at(4)), ptr(at(5))
	write(t, s, func(tx *Tx) error { return tx.PutAttachment(&attached) })
	again := testVolume()
	again.ID = "v2"
	write(t, s, func(tx *Tx) error { return tx.InsertVolume(&again) })
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "deleted", v)(tx.Volume("v1")),
			same(t, "new one of the name", again)(tx.VolumeByName("p1", "data")),
			same(t, "attachments", []VolumeAttachment{attached})(tx.VolumeAttachments([]string{"v1", "v2"})),
			same(t, "of the instance", []VolumeAttachment{attached})(tx.AttachmentsOf("i1")),
			same(t, "of another", []VolumeAttachment{})(tx.AttachmentsOf("i2")))
	})
	write(t, s, func(tx *Tx) error { return tx.DeleteAttachment(&attached) })
	read(t, s, func(tx *Tx) error {
		return same(t, "detached", []VolumeAttachment{})(tx.VolumeAttachments([]string{"v1"}))
	})
}

func testBackends(t *testing.T, s *Store) {
	b := Backend{ID: "b1", ProjectID: "p1", Type: "aws", Spec: json.RawMessage(`{"type":"aws"}`)}
	write(t, s, func(tx *Tx) error { return errors.Join(seed(tx), tx.InsertBackend(&b)) })
	if err := s.Write(t.Context(), func(tx *Tx) error {
		return tx.InsertBackend(&Backend{ID: "b2", ProjectID: "p1", Type: "aws", Spec: b.Spec})
	}); !errors.Is(err, ErrExists) {
		t.Errorf("a second one of the type: %v", err)
	}
	b.Spec = json.RawMessage(`{"type":"aws","creds":{}}`)
	write(t, s, func(tx *Tx) error { return tx.UpdateBackend(&b) })
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "backend", b)(tx.Backend("p1", "aws")),
			same(t, "backends", []Backend{b})(tx.Backends("p1")),
			same(t, "types", []string{"aws"})(tx.BackendTypes("p1")))
	})
	write(t, s, func(tx *Tx) error { return tx.DeleteBackend("p1", "aws") })
	read(t, s, func(tx *Tx) error { return same(t, "backends", []Backend{})(tx.Backends("p1")) })
}

func testHealthChecks(t *testing.T, s *Store) {
	check := func(id string, sec int) HealthCheck {
		return HealthCheck{
			ID: id, InstanceID: "i1", CollectedAt: at(sec), Status: api.HealthWarning,
			Events: []api.HealthEvent{{Timestamp: api.At(at(sec)), Status: api.HealthWarning, Message: "hot"}},
		}
	}
	list := []HealthCheck{check("h1", 1), check("h2", 2), check("h3", 3)}
	write(t, s, func(tx *Tx) error {
		err := seed(tx)
		for i := range list {
			err = errors.Join(err, tx.InsertHealthCheck(&list[i]))
		}
		return err
	})
	for _, tt := range []struct {
		filter HealthFilter
		want   []string
	}{
		{HealthFilter{}, []string{"h3", "h2", "h1"}},
		{HealthFilter{Limit: 1}, []string{"h3"}},
		{HealthFilter{After: ptr(at(1)), Before: ptr(at(3))}, []string{"h2"}},
	} {
		tt.filter.InstanceID = "i1"
		read(t, s, func(tx *Tx) error {
			rows, err := tx.HealthChecks(tt.filter)
			var got []string
			for _, r := range rows {
				got = append(got, r.ID)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%+v (-want +got):\n%s", tt.filter, diff)
			}
			return err
		})
	}
	write(t, s, func(tx *Tx) error { return tx.DeleteHealthChecks(at(3)) })
	read(t, s, func(tx *Tx) error {
		return same(t, "recent checks", list[2:])(tx.HealthChecks(HealthFilter{InstanceID: "i1"}))
	})
	write(t, s, func(tx *Tx) error { return tx.DeleteHealthChecks(at(9)) })
	read(t, s, func(tx *Tx) error {
		return same(t, "the newest stays", list[2:])(tx.HealthChecks(HealthFilter{InstanceID: "i1"}))
	})
}

// testMachines finds who has a machine, who waits for one, and what a backend
// is used for.
func testMachines(t *testing.T, s *Store) {
	rented, wanted, given := testInstance(), testInstance(), testInstance()
	rented.Status, rented.Backend = api.InstanceTerminating, "aws"
	wanted.ID, wanted.Num, wanted.Machine, wanted.Status, wanted.Backend = "i2", 1, nil, api.InstancePending, ""
	given.ID, given.Num, given.Machine, given.Wish, given.Status = "i3", 2, nil, nil, api.InstancePending
	write(t, s, func(tx *Tx) error {
		u, p, f := testUser(), testProject(), testFleet()
		return errors.Join(tx.InsertUser(&u), tx.InsertProject(&p), tx.InsertFleet(&f),
			tx.InsertInstance(&rented), tx.InsertInstance(&wanted), tx.InsertInstance(&given))
	})
	read(t, s, func(tx *Tx) error {
		use, err := tx.BackendUse("p1", "aws")
		if use != "instances" {
			t.Errorf("a backend whose machine ends is used for %q", use)
		}
		return errors.Join(err,
			same(t, "machines", []Instance{rented})(tx.Machines()),
			same(t, "wanted", []Instance{wanted})(tx.WantedMachines("p1")))
	})
	rented.Machine.HostKey = ""
	write(t, s, func(tx *Tx) error { return tx.UpdateInstance(&rented) })
	rented.Machine = nil
	write(t, s, func(tx *Tx) error { return tx.UpdateInstance(&rented) })
	read(t, s, func(tx *Tx) error { return same(t, "without a machine", rented)(tx.Instance("i1")) })
}
