package engine

import (
	"reflect"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
)

// HealthOf is how an instance is, as far as it is known.
func HealthOf(i *store.Instance) api.HealthStatus {
	switch {
	case i.Unhealthy:
		return api.HealthFailure
	case i.Info == nil:
		return api.Healthy
	}
	return healthStatus(i.Info.Health)
}

func healthStatus(h *hostapi.Health) api.HealthStatus {
	if h == nil {
		return api.Healthy
	}
	return statusOf(h.Status)
}

// statusOf reads what a host says. A word that is not known is no reason to
// keep jobs away.
func statusOf(word string) api.HealthStatus {
	switch word {
	case hostapi.Healthy:
		return api.Healthy
	case hostapi.HealthFailure:
		return api.HealthFailure
	}
	return api.HealthWarning
}

// heardOf is the health that holds now: a shim that has just started has not
// looked yet, and what was wrong before is still wrong.
func heardOf(old *hostapi.Info, now hostapi.Info) *hostapi.Health {
	if now.Health == nil && old != nil && now.Host.GPUVendor == "nvidia" {
		return old.Health
	}
	return now.Health
}

// examine records a change of an instance's health. A failure only keeps new
// jobs away (spec: orchestration.md, instances).
func examine(s *scene, health *hostapi.Health) {
	i := &s.inst
	var old *hostapi.Health
	if i.Info != nil {
		old = i.Info.Health
	}
	if health != nil && !reflect.DeepEqual(old, health) {
		s.checks = append(s.checks, healthCheck(s, *health))
	}
	was, is := healthStatus(old), healthStatus(health)
	if was != is {
		s.event("Instance health changed "+upper(was)+" -> "+upper(is), instanceTarget(i))
	}
	if unhealthy := is == api.HealthFailure; i.Unhealthy != unhealthy {
		i.Unhealthy, s.instDirty = unhealthy, true
		s.usable = s.usable || !unhealthy
	}
}

func healthCheck(s *scene, h hostapi.Health) store.HealthCheck {
	check := store.HealthCheck{InstanceID: s.inst.ID, CollectedAt: s.now, Status: statusOf(h.Status), Events: []api.HealthEvent{}}
	for _, i := range h.Incidents[:min(len(h.Incidents), hostapi.MaxIncidents)] {
		check.Events = append(check.Events, api.HealthEvent{
			Timestamp: api.At(s.now), Status: statusOf(i.Status), Message: i.Message[:min(len(i.Message), hostapi.MaxIncidentText)],
		})
	}
	return check
}
