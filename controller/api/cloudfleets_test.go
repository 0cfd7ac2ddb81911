package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// nodesSpec is a cloud fleet as JSON; more are further fields.
func nodesSpec(name, nodes, more string) string {
	return fmt.Sprintf(`{"configuration":{"type":"fleet","name":%q,"nodes":%s%s},"profile":{"name":"default"}}`, name, nodes, more)
}

func states(f api.Fleet) []string {
	var out []string
	for _, in := range f.Instances {
		out = append(out, fmt.Sprint(in.Name, " ", in.Status, " ", deref(in.TerminationReason, "")))
	}
	return out
}

func TestCloudFleetCreate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	spec := nodesSpec("pool", `{"min":1,"target":2,"max":3}`, "")
	plan := post[api.FleetPlan](r, fleets+"get_plan", `{"spec":`+spec+`}`)
	if plan.Action != "create" || plan.TotalOffers != 0 || plan.MaxOfferPrice != nil || plan.Offers == nil {
		t.Errorf("plan %+v", plan)
	}
	a := r.request("POST", fleets+"apply", memberToken, fmt.Sprintf(`{"plan":{"spec":%s},"force":false}`, spec))
	for _, part := range []string{
		`"nodes":{"min":1,"target":2,"max":3}`, `"status":"active"`,
		`"backend":null,"instance_type":null,"name":"pool-0"`, `"hostname":null,"status":"pending"`,
		`"region":null,"availability_zone":null,"price":null,"total_blocks":1,"busy_blocks":0`, `"name":"pool-1"`,
	} {
		if !strings.Contains(a.body, part) {
			t.Errorf("no %s in %s", part, a.body)
		}
	}
	f := post[api.Fleet](r, fleets+"get", `{"name":"pool"}`)
	for _, in := range f.Instances {
		step(r, store.KindInstance, in.ID)
	}
	f = post[api.Fleet](r, fleets+"get", `{"name":"pool"}`)
	if diff := cmp.Diff([]string{"pool-0 terminated no_offers", "pool-1 terminated no_offers"}, states(f)); diff != "" {
		t.Errorf("instances (-want +got):\n%s", diff)
	}
	if f.Status != api.FleetActive || *f.Instances[0].TerminationReasonMessage != "No offers found" {
		t.Errorf("fleet %s, message %v", f.Status, f.Instances[0].TerminationReasonMessage)
	}
	post[any](r, fleets+"delete_instances", `{"name":"pool","instance_nums":[0,9]}`)
	f = post[api.Fleet](r, fleets+"get", `{"name":"pool"}`)
	if diff := cmp.Diff([]string{"pool-1 terminated no_offers"}, states(f)); diff != "" {
		t.Errorf("instances after one was deleted (-want +got):\n%s", diff)
	}
	post[any](r, fleets+"delete", `{"names":["pool"]}`)
	step(r, store.KindFleet, f.ID)
	if _, code := refused(r, fleets+"get", `{"name":"pool"}`); code != "resource_not_exists" {
		t.Errorf("after its deletion: %s", code)
	}
	if gone := post[api.Fleet](r, fleets+"get", `{"id":"`+f.ID+`"}`); gone.Status != api.FleetTerminated {
		t.Errorf("deleted fleet by id: %s", gone.Status)
	}
	want := []string{
		"Fleet created. Status: ACTIVE by member fleet=pool",
		"Instance created on fleet submission. Status: PENDING by system instance=pool-0",
		"Instance created on fleet submission. Status: PENDING by system instance=pool-1",
		"Instance status changed PENDING -> TERMINATED. Termination reason: NO_OFFERS (No offers found) by system instance=pool-0",
		"Instance status changed PENDING -> TERMINATED. Termination reason: NO_OFFERS (No offers found) by system instance=pool-1",
		"Fleet status changed ACTIVE -> TERMINATING by admin fleet=pool",
		"Fleet status changed TERMINATING -> TERMINATED by system fleet=pool",
	}
	if diff := cmp.Diff(want, messages(r, "fleet", "instance")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestCloudFleetUpdate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	f := applyFleet(t, r, nodesSpec("pool", "2", ""), nil)
	const can = "Can only update ['nodes', 'reservation', 'tags', 'resources', 'backends', 'regions', 'availability_zones', 'instance_types', 'spot_policy', 'max_price']."
	all := `,"resources":{"cpu":4},"tags":{"a":"b"},"backends":["aws"],"regions":["x"],"availability_zones":["z"],"instance_types":["t"],` +
		`"spot_policy":"auto","max_price":1,"reservation":"r"`
	for name, tt := range map[string]struct{ spec, refusal string }{
		"nothing":      {nodesSpec("pool", "2", ""), ""},
		"nodes":        {nodesSpec("pool", "3", ""), ""},
		"provisioning": {nodesSpec("pool", `"0..3"`, all), ""},
		"path":         {strings.Replace(nodesSpec("pool", "2", ""), `"profile"`, `"configuration_path":"x.yml","profile"`, 1), ""},
		"several":      {nodesSpec("pool", "2", `,"idle_duration":"1h","placement":"cluster","blocks":2,"retry":true,"tags":{"a":"b"}`), "Failed to update fields ['placement', 'blocks', 'retry', 'idle_duration', 'tags']. " + can},
		"options":      {nodesSpec("pool", "2", `,"backend_options":[{"type":"vastai"}]`), "Failed to update fields ['backend_options']. " + can},
		"profile": {
			strings.Replace(nodesSpec("pool", "2", ""), `"default"`, `"other"`, 1),
			"Failed to update fields ['profile', 'merged_profile']. Can only update ['configuration', 'configuration_path', 'merged_profile'].",
		},
		"kind": {fleetSpec(t, "pool", "", "10.0.0.7"), "Fleet type changed from Cloud to SSH, cannot update"},
	} {
		want := map[bool]string{true: "update", false: "create"}[tt.refusal == ""]
		if plan := post[api.FleetPlan](r, fleets+"get_plan", `{"spec":`+tt.spec+`}`); plan.Action != want {
			t.Errorf("%s: action %s, want %s", name, plan.Action, want)
		}
		if tt.refusal == "" {
			continue
		}
		if msg, _ := refused(r, fleets+"apply", `{"plan":{"spec":`+tt.spec+`},"force":true}`); msg != tt.refusal {
			t.Errorf("%s: %s", name, msg)
		}
	}
	got := applyFleet(t, r, nodesSpec("pool", `{"min":0,"target":2,"max":4}`, all), &f)
	if len(got.Instances) != 2 || got.Spec.Configuration.Nodes.Target != 2 || *got.Spec.Configuration.MaxPrice != 1 {
		t.Errorf("after the update: %+v", got)
	}
	if msg, _ := refused(r, fleets+"apply", `{"plan":{"spec":`+nodesSpec("pool", "2", "")+`,"current_resource":`+jsonOf(t, f)+`},"force":false}`); msg != msgResourceChanged {
		t.Errorf("with an old current_resource: %s", msg)
	}
	applyFleet(t, r, fleetSpec(t, "lab", "", "10.0.0.1"), nil)
	if msg, _ := refused(r, fleets+"apply", `{"plan":{"spec":`+nodesSpec("lab", "2", "")+`},"force":true}`); msg != "Fleet type changed from SSH to Cloud, cannot update" {
		t.Errorf("an SSH fleet that becomes a cloud fleet: %s", msg)
	}
}

// TestFleetKeys notices that the hosts would be reached with another key,
// although the stored specification has none.
func TestFleetKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	jump := func(key string) string {
		return fmt.Sprintf(`{"configuration":{"type":"fleet","name":"lab","ssh_config":{"user":"u","ssh_key":{"public":"p","private":%q},
			"hosts":["10.0.0.1"],"proxy_jump":{"hostname":"j","user":"u","identity_file":"f","ssh_key":{"public":"p","private":%q}}}},"profile":{"name":"default"}}`, aKey(), key)
	}
	got := applyFleet(t, r, jump(aKey()), nil)
	if body := jsonOf(t, got); strings.Contains(body, "PRIVATE KEY") {
		t.Errorf("a key leaks: %s", body)
	}
	other := jump(sshKey(t, ""))
	if plan := post[api.FleetPlan](r, fleets+"get_plan", `{"spec":`+other+`}`); plan.Action != "create" {
		t.Errorf("another key of the jump host: %s", plan.Action)
	}
	if msg, _ := refused(r, fleets+"apply", `{"plan":{"spec":`+other+`},"force":true}`); msg != "Hosts configuration changed, cannot update: ['10.0.0.1']" {
		t.Errorf("another key of the jump host: %s", msg)
	}
	applyFleet(t, r, jump(aKey()), &got)
}
