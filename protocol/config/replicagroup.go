package config

import "errors"

// Over gives the fields that the replicas of the group have in common with the
// service, with what the group sets for itself.
func (g ReplicaGroup) Over(base RunBase) RunBase {
	base.Resources = g.Resources
	override(&base.Image, g.Image)
	override(&base.Python, g.Python)
	override(&base.NVCC, g.NVCC)
	override(&base.Docker, g.Docker)
	if g.Privileged != nil {
		base.Privileged = *g.Privileged
	}
	return base
}

func override[T any](value **T, by *T) {
	if by != nil {
		*value = by
	}
}

// CheckRouter refuses to retry a service with a dynamo router: its workers know
// the router by an address that a retry would change. params are the
// effective parameters. Unlike 0.22.5 it takes `retry: false`, which asks
// for nothing.
func (r Run) CheckRouter(params ProfileParams) error {
	if r.Service == nil || params.Retry == nil || params.Retry.Bool != nil && !*params.Retry.Bool {
		return nil
	}
	if i := r.Service.RouterGroup(); i >= 0 && r.Service.Groups[i].Router.Type == RouterDynamo {
		return errors.New("Retry cannot be configured for services with a Dynamo router replica group. " + //nolint:staticcheck // the text of 0.22.5
			"The router's address must remain stable for the life of the run; allowing retry would leave workers bound to a router that no longer exists. " +
			"Remove `retry` from the profile/configuration and re-apply.")
	}
	return nil
}
