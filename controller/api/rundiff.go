package api

import (
	"slices"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

// updatable are the fields of a specification and of its configuration that an
// update of an active run may change (spec: rest-api.md 9.2).
func updatable(c config.Run) (spec, configuration []string) {
	spec = []string{"configuration_path", "configuration"}
	configuration = []string{"priority"}
	switch {
	case c.DevEnvironment != nil:
		configuration = append(configuration, "inactivity_duration")
	case c.Service != nil:
		spec = append(spec, "repo_data", "repo_code_hash", "file_archives", "working_dir")
		configuration = append(configuration, "replicas", "groups", "scaling", "gateway")
		configuration = append(configuration, rolling()...)
	}
	return spec, configuration
}

// rolling are the fields of a service whose change replaces its replicas.
func rolling() []string {
	return []string{
		"port", "probes", "resources", "volumes", "docker", "files", "image", "user", "privileged", "entrypoint",
		"working_dir", "python", "nvcc", "single_branch", "env", "shell", "commands",
	}
}

// diffRun lists what changes between two effective specifications, or says
// why the change is not possible in place.
func diffRun(old, updated *api.RunSpec) ([]string, error) {
	a, b := old.Configuration, updated.Configuration
	if a.Type() != b.Type() {
		return nil, refuse("Configuration type changed from %s to %s, cannot update", a.Type(), b.Type())
	}
	fields := changed(*old, *updated)
	allowed, allowedInside := updatable(b)
	if !only(fields, allowed...) {
		return nil, cannotUpdate(fields, allowed...)
	}
	inside := changed(a, b)
	if !slices.Contains(fields, "file_archives") {
		allowedInside = append(allowedInside, "files")
	}
	if onlyArchWidens(a.Base().Resources, b.Base().Resources) {
		allowedInside = append(allowedInside, "resources")
	}
	if sameHTTPS(a.Service, b.Service) {
		allowedInside = append(allowedInside, "https")
	}
	if !only(inside, allowedInside...) {
		return nil, cannotUpdate(inside, allowedInside...)
	}
	if err := checkRouters(a.Service, b.Service, fields, inside); err != nil {
		return nil, err
	}
	var out []string
	for _, f := range fields {
		if f != "configuration" {
			out = append(out, f)
		}
	}
	for _, f := range inside {
		out = append(out, "configuration."+f)
	}
	return out, nil
}

func onlyArchWidens(a, b config.Resources) bool {
	if b.CPU.Arch != nil {
		return false
	}
	a.CPU.Arch = nil
	return len(changed(a, b)) == 0
}

// sameHTTPS says whether two services mean the same by `https`: unset is true.
func sameHTTPS(a, b *config.Service) bool {
	if a == nil || b == nil {
		return false
	}
	mode := func(s *config.Service) config.HTTPS {
		if s.HTTPS == nil {
			return config.HTTPS{On: true}
		}
		return *s.HTTPS
	}
	return mode(a) == mode(b)
}

// checkRouters refuses what would change the router of a service that runs.
func checkRouters(a, b *config.Service, fields, inside []string) error {
	if a == nil || b == nil {
		return nil
	}
	i, j := a.RouterGroup(), b.RouterGroup()
	switch {
	case i != j:
		return refuse("Cannot add, remove or move the router group of an active service")
	case i < 0:
		return nil
	case a.Groups[i].Router.Type != b.Groups[j].Router.Type:
		return refuse("Cannot change router.type of an active service")
	case a.Groups[i].Router.Type != config.RouterDynamo:
		return nil
	}
	rolls := slices.ContainsFunc(inside, func(f string) bool { return slices.Contains(rolling(), f) })
	if len(changed(a.Groups[i], b.Groups[j])) > 0 || rolls || !only(fields, "configuration", "configuration_path") {
		return refuse("Cannot update a service with a Dynamo router so that its router would be replaced")
	}
	return nil
}
