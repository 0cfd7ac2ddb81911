package schema

import (
	"maps"
	"reflect"

	"dstack/protocol/config"
)

// requiredFields are the fields that each object must have.
func requiredFields(name string) []any {
	return map[string][]any{
		"Service":           {"port"},
		"Gateway":           {"backend", "region"},
		"SSHParams":         {"hosts"},
		"SSHProxy":          {"hostname", "user", "identity_file"},
		"SSHKey":            {"public"},
		"RegistryAuth":      {"username", "password"},
		"UtilizationPolicy": {"min_gpu_utilization", "time_window"},
		"Schedule":          {"cron"},
		"Scaling":           {"metric", "target"},
		"RateLimit":         {"rps"},
		"Probe":             {"type"},
		"ProbeHeader":       {"name", "value"},
		"FileMapping":       {"local_path", "path"},
		"Disk":              {"size"},
		"EntityReference":   {"name"},
		"PresetAgent":       {"provider"},
	}[name]
}

// wordFields are the fields with a few words, by "Struct.field".
func wordFields(name string) []string {
	return map[string][]string{
		"Task.type":                     {config.TypeTask},
		"DevEnvironment.type":           {config.TypeDevEnvironment},
		"Service.type":                  {config.TypeService},
		"Fleet.type":                    {config.TypeFleet},
		"Gateway.type":                  {config.TypeGateway},
		"Preset.type":                   {config.TypePreset},
		"DevEnvironment.ide":            {config.IDEVSCode, config.IDECursor, config.IDEWindsurf, config.IDEZed},
		"ProfileParams.spot_policy":     {config.SpotPolicySpot, config.SpotPolicyOnDemand, config.SpotPolicyAuto},
		"Fleet.spot_policy":             {config.SpotPolicySpot, config.SpotPolicyOnDemand, config.SpotPolicyAuto},
		"ReplicaGroup.spot_policy":      {config.SpotPolicySpot, config.SpotPolicyOnDemand, config.SpotPolicyAuto},
		"ProfileParams.creation_policy": {config.CreationReuse, config.CreationReuseOrCreate},
		"ProfileParams.startup_order":   {config.StartupAny, config.StartupMasterFirst, config.StartupWorkersFirst},
		"ProfileParams.stop_criteria":   {config.StopAllDone, config.StopMasterDone},
		"Fleet.placement":               {config.PlacementAny, config.PlacementCluster},
		"RepoSpec.if_exists":            {config.RepoExistsError, config.RepoExistsSkip},
		"Scaling.metric":                {"rps"},
		"Probe.type":                    {"http"},
		"Probe.method":                  {"get", "post", "put", "delete", "patch", "head"},
		"Gateway.backend":               config.BackendTypes,
		"PresetAgent.provider":          {config.AgentClaude, config.AgentCodex},
		"PresetAgent.effort":            {"low", "medium", "high", "xhigh", "max"},
	}[name]
}

// specialField gives the schema of a field whose type does not say what it
// accepts, by "Struct.field".
func (b *builder) specialField(name string) (node, bool) {
	if words := wordFields(name); words != nil {
		return enum(words...), true
	}
	special := map[string]func() node{
		"ProfileParams.backends":                func() node { return list(enum(config.BackendTypes...), 0, 0) },
		"Fleet.backends":                        func() node { return list(enum(config.BackendTypes...), 0, 0) },
		"ProfileParams.backend_options":         backendOptions,
		"Fleet.backend_options":                 backendOptions,
		"ProfileParams.idle_duration":           offable,
		"Fleet.idle_duration":                   offable,
		"ProfileParams.max_price":               func() node { return number(node{"exclusiveMinimum": 0}) },
		"Fleet.max_price":                       func() node { return number(node{"exclusiveMinimum": 0}) },
		"ProfileParams.instances":               func() node { return list(b.selector(), 1, 0) },
		"UtilizationPolicy.min_gpu_utilization": func() node { return integer(node{"minimum": 0, "maximum": 100}) },
		"UtilizationPolicy.time_window":         duration,
		"Schedule.cron":                         func() node { return anyOf(text(), list(text(), 1, 0)) },
		"RunBase.user":                          func() node { return anyOf(pattern(userText), integer(least(0))) },
		"RunBase.python":                        python,
		"ReplicaGroup.python":                   python,
		"RunBase.shell":                         func() node { return pattern(shellText) },
		"RunBase.priority":                      func() node { return integer(node{"minimum": 0, "maximum": 100}) },
		"RunBase.repos":                         func() node { return list(b.value(reflect.TypeFor[config.RepoSpec]()), 0, 1) },
		"Task.nodes":                            func() node { return integer(least(1)) },
		"NodeGroup.nodes":                       func() node { return integer(least(1)) },
		"NodeGroup.name":                        func() node { return pattern(groupName) },
		"ReplicaGroup.name":                     func() node { return pattern(groupName) },
		"Task.groups":                           func() node { return list(b.object(reflect.TypeFor[config.NodeGroup]()), 1, 0) },
		"Service.groups":                        b.replicaGroups,
		"Service.replicas":                      func() node { return anyOf(rangeOf(integer(nil)), b.replicaGroups()) },
		"Service.port":                          func() node { return anyOf(port(), pattern(`^(\d+:)?\d+$`), b.portObject()) },
		"DevEnvironment.inactivity_duration":    offable,
		"Resources.shm_size":                    size,
		"CPU.arch":                              func() node { return pattern(`^([xX]86|[aA][rR][mM])$`) },
		"GPU.vendor":                            func() node { return pattern(vendorText) },
		"GPU.name":                              func() node { return anyOf(text(), list(text(), 0, 0)) },
		"GPU.compute_capability": func() node {
			return anyOf(node{"type": "number"}, pattern(capability), list(integer(nil), 2, 2))
		},
		"Scaling.target":           func() node { return number(node{"exclusiveMinimum": 0}) },
		"Scaling.window":           func() node { return anyOf(enum("30s", "60s", "1m", "300s", "5m"), node{"enum": []any{30, 60, 300}}) },
		"Scaling.scale_up_delay":   duration,
		"Scaling.scale_down_delay": duration,
		"RateLimit.prefix":         func() node { return withPattern(length(0, 4094), limitPrefix) },
		"RateLimit.rps":            func() node { return number(node{"minimum": 1.0 / 60}) },
		"RateLimit.burst":          func() node { return integer(least(0)) },
		"Probe.url":                func() node { return withPattern(length(1, 2048), "^/") },
		"Probe.headers":            func() node { return list(b.object(reflect.TypeFor[config.ProbeHeader]()), 0, 16) },
		"Probe.body":               func() node { return length(1, 2048) },
		"Probe.timeout":            duration,
		"Probe.interval":           duration,
		"Probe.ready_after":        func() node { return integer(least(1)) },
		"ProbeHeader.name":         func() node { return length(1, 256) },
		"ProbeHeader.value":        func() node { return length(1, 2048) },
		"Gateway.instance_type":    func() node { return length(1, 0) },
		"Gateway.replicas":         func() node { return integer(least(1)) },
		"Preset.base":              notBlank,
		"Preset.repo":              notBlank,
		"Preset.dataset":           notBlank,
		"Preset.output_tokens":     func() node { return integer(least(2)) },
	}
	for _, count := range []string{"min_context_length", "max_ttft", "trials", "concurrency", "input_tokens"} {
		special["Preset."+count] = func() node { return integer(least(1)) }
	}
	if schema, ok := special[name]; ok {
		return schema(), true
	}
	return nil, false
}

func (b *builder) replicaGroups() node {
	return list(b.object(reflect.TypeFor[config.ReplicaGroup]()), 1, 0)
}

func withPattern(s node, p string) node {
	s["pattern"] = p
	return s
}

// python is a version; YAML takes some of them for numbers.
func python() node {
	return anyOf(enum("3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15"), node{"enum": []any{3.9, 3.1, 3.11, 3.12, 3.13, 3.14, 3.15}})
}

func backendOptions() node {
	return list(fieldsOf(node{
		"type": enum("vastai"), "offer_order": orNull(enum("score", "price")),
		"min_reliability": orNull(number(node{"minimum": 0, "maximum": 1})), "min_score": orNull(integer(least(0))),
	}), 0, 1)
}

// extraFields are accepted fields that the struct does not have.
func (b *builder) extraFields(name string) node {
	if name == "ReplicaGroup" {
		return node{oldReplicas: rangeOf(integer(nil))}
	}
	return nil
}

// oldReplicas is the former name of replicas of a group.
const oldReplicas = "count"

// volume has different fields for each backend.
func (b *builder) volume() node {
	common := node{
		"type": enum(config.TypeVolume), "name": orNull(text()), "auto_cleanup_duration": orNull(offable()),
		"tags": orNull(b.value(reflect.TypeFor[map[string]string]())),
	}
	optional := orNull(text())
	kinds := []struct {
		backends []string
		own      node
		required []any
	}{
		{[]string{"aws", "gcp"}, node{"size": orNull(size()), "volume_id": optional, "region": text(), "availability_zone": optional}, []any{"region"}},
		{[]string{"runpod"}, node{"size": orNull(size()), "volume_id": optional, "region": text(), "availability_zone": optional}, []any{"region"}},
		{[]string{"kubernetes"}, node{
			"size": orNull(size()), "region": text(), "claim_name": optional, "storage_class_name": optional,
			"access_modes": list(text(), 0, 0), "read_only": boolean(),
		}, nil},
		{[]string{"daytona", "lium"}, node{"volume_id": optional}, nil},
	}
	var forms []node
	for _, kind := range kinds {
		properties := maps.Clone(common)
		maps.Copy(properties, kind.own)
		properties["backend"] = enum(kind.backends...)
		forms = append(forms, fieldsOf(properties, append(kind.required, "type", "backend")...))
	}
	return anyOf(forms...)
}
