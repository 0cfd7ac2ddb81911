package engine

import (
	"fmt"
	"strings"
	"testing"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
)

// TestHealth is appendices 105 and 107: a change is recorded and told once, a
// failure keeps only new jobs away, and a restarted shim that has not looked
// yet changes nothing.
func TestHealth(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	inst, _, job := b.running()
	info := (&simHost{name: "h0"}).info()
	info.HostID, info.Host.GPUVendor = b.instance(inst.ID).HostID, "nvidia"
	see := func(status, message string) {
		t.Helper()
		info.Health = nil
		if status != "" {
			info.Health = &hostapi.Health{Status: status}
		}
		if message != "" {
			info.Health.Incidents = []hostapi.Incident{{Status: status, Message: message}}
		}
		if err := b.e.HostInfo(t.Context(), inst.ID, info); err != nil {
			t.Fatal(err)
		}
		b.settle()
	}
	is := func(want api.HealthStatus, unhealthy bool) {
		t.Helper()
		i := b.instance(inst.ID)
		expect(t, "health", []any{HealthOf(&i), i.Unhealthy}, []any{want, unhealthy})
	}
	see("", "")
	is(api.Healthy, false)
	see(hostapi.Healthy, "")
	see(hostapi.HealthWarning, "GPU 0 is hot")
	is(api.HealthWarning, false)
	see(hostapi.HealthFailure, "GPU 0 is gone")
	see(hostapi.HealthFailure, "GPU 0 is gone")
	is(api.HealthFailure, true)
	expect(t, "the job goes on", b.job(job.RunID).Status, api.JobRunning)
	see("", "")
	is(api.HealthFailure, true)
	see("on fire", "")
	is(api.HealthWarning, false)
	info.Host.GPUVendor = ""
	see("", "")
	is(api.Healthy, false)

	var told []string
	for _, m := range b.messages() {
		if strings.Contains(m, "health") {
			told = append(told, strings.TrimPrefix(m, "Instance health changed "))
		}
	}
	expect(t, "events", told, []string{"HEALTHY -> WARNING", "WARNING -> FAILURE", "FAILURE -> WARNING", "WARNING -> HEALTHY"})
	var checks []string
	read(t, b.st, func(tx *store.Tx) error {
		rows, err := tx.HealthChecks(store.HealthFilter{InstanceID: inst.ID})
		for _, r := range rows {
			text := string(r.Status)
			for _, e := range r.Events {
				text += fmt.Sprint(" ", e.Status, " ", e.Message)
			}
			checks = append(checks, text)
		}
		return err
	})
	expect(t, "number of checks", len(checks), 4)
	for _, want := range []string{"healthy", "warning warning GPU 0 is hot", "failure failure GPU 0 is gone", "warning"} {
		n := 0
		for _, c := range checks {
			if c == want {
				n++
			}
		}
		expect(t, want, n, 1)
	}
}

// TestWaitsForHealth: a run finds no place on a host with a failure, and one
// as soon as it is well again.
func TestWaitsForHealth(t *testing.T) {
	t.Parallel()
	i := testInstance(api.InstanceIdle)
	s := &scene{now: now(), inst: i}
	info := hostapi.Info{Host: hostapi.Host{GPUVendor: "nvidia"}, Health: &hostapi.Health{Status: hostapi.HealthFailure}}
	inform(s, info)
	expect(t, "a failure makes room for nobody", []bool{s.inst.Unhealthy, s.usable}, []bool{true, false})
	info.Health = &hostapi.Health{Status: hostapi.Healthy}
	inform(s, info)
	expect(t, "who waits looks again", []bool{s.inst.Unhealthy, s.usable}, []bool{false, true})
}
