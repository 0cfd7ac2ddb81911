package jobspec

import (
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// Effective is the merged profile of a run: the configuration's value where
// it has one, else the profile's.
func Effective(spec api.RunSpec) config.ProfileParams {
	var p config.ProfileParams
	if t := spec.Configuration.Task; t != nil {
		p = t.ProfileParams
	}
	if spec.Profile == nil {
		return p
	}
	q := spec.Profile.ProfileParams
	list(&p.Backends, q.Backends)
	list(&p.Regions, q.Regions)
	list(&p.AvailabilityZones, q.AvailabilityZones)
	list(&p.InstanceTypes, q.InstanceTypes)
	list(&p.Fleets, q.Fleets)
	list(&p.Instances, q.Instances)
	list(&p.BackendOptions, q.BackendOptions)
	one(&p.Reservation, q.Reservation)
	one(&p.SpotPolicy, q.SpotPolicy)
	one(&p.Retry, q.Retry)
	one(&p.MaxDuration, q.MaxDuration)
	one(&p.StopDuration, q.StopDuration)
	one(&p.MaxPrice, q.MaxPrice)
	one(&p.CreationPolicy, q.CreationPolicy)
	one(&p.IdleDuration, q.IdleDuration)
	one(&p.UtilizationPolicy, q.UtilizationPolicy)
	one(&p.StartupOrder, q.StartupOrder)
	one(&p.StopCriteria, q.StopCriteria)
	one(&p.Schedule, q.Schedule)
	if p.Tags == nil {
		p.Tags = q.Tags
	}
	return p
}

func one[T any](into **T, fallback *T) {
	if *into == nil {
		*into = fallback
	}
}

func list[T any](into *[]T, fallback []T) {
	if *into == nil {
		*into = fallback
	}
}
