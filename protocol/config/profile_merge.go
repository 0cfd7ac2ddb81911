package config

import (
	"errors"
	"fmt"
)

// DefaultHomeDir is the deprecated home_dir, which has no effect.
const DefaultHomeDir = "/root"

// Or gives, for each parameter, the value of p if it has one, else that of
// fallback. Lists and objects are taken whole.
func (p ProfileParams) Or(fallback ProfileParams) ProfileParams {
	orList(&p.Backends, fallback.Backends)
	orList(&p.Regions, fallback.Regions)
	orList(&p.AvailabilityZones, fallback.AvailabilityZones)
	orList(&p.InstanceTypes, fallback.InstanceTypes)
	orValue(&p.Reservation, fallback.Reservation)
	orValue(&p.SpotPolicy, fallback.SpotPolicy)
	orValue(&p.Retry, fallback.Retry)
	orValue(&p.MaxDuration, fallback.MaxDuration)
	orValue(&p.StopDuration, fallback.StopDuration)
	orValue(&p.MaxPrice, fallback.MaxPrice)
	orValue(&p.CreationPolicy, fallback.CreationPolicy)
	orValue(&p.IdleDuration, fallback.IdleDuration)
	orValue(&p.UtilizationPolicy, fallback.UtilizationPolicy)
	orValue(&p.StartupOrder, fallback.StartupOrder)
	orValue(&p.StopCriteria, fallback.StopCriteria)
	orValue(&p.Schedule, fallback.Schedule)
	orList(&p.Fleets, fallback.Fleets)
	orList(&p.Instances, fallback.Instances)
	if p.Tags == nil {
		p.Tags = fallback.Tags
	}
	orList(&p.BackendOptions, fallback.BackendOptions)
	return p
}

func orValue[T any](value **T, fallback *T) {
	if *value == nil {
		*value = fallback
	}
}

func orList[T any](list *[]T, fallback []T) {
	if *list == nil {
		*list = fallback
	}
}

// ProfileChoice says which profile a run uses: what the user passed and set,
// strongest first.
type ProfileChoice struct {
	// None is --no-profile.
	None bool
	// Name is --profile.
	Name string
	// EnvNone is DSTACK_NO_PROFILE and EnvName is DSTACK_PROFILE.
	EnvNone string
	EnvName string
}

// Select finds the profile in the profiles of the current folder and then of
// the home folder.
func (c ProfileChoice) Select(here, home []Profile) (Profile, error) {
	name := c.Name
	if !c.None && name == "" {
		none, err := envFlag(c.EnvNone)
		if err != nil {
			return Profile{}, fmt.Errorf("DSTACK_NO_PROFILE: %w", err)
		}
		c.None, name = none, c.EnvName
	}
	if c.None {
		return Profile{Name: "no-profile"}, nil
	}
	for _, profiles := range [][]Profile{here, home} {
		for _, p := range profiles {
			if name == "" && p.Default || name != "" && p.Name == name {
				return p, nil
			}
		}
	}
	if name != "" {
		return Profile{}, fmt.Errorf("no such profile: %s; add it to .dstack/profiles.yml or ~/.dstack/profiles.yml", name)
	}
	return Profile{Name: "default"}, nil
}

func envFlag(s string) (bool, error) {
	switch s {
	case "", "0", "false", "off":
		return false, nil
	case "1", "true", "on":
		return true, nil
	}
	return false, errors.New("must be 1, true, on, 0, false or off, got " + s)
}
