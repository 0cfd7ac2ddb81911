package openapi

import (
	"maps"
	"reflect"
	"strings"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

// configPackage has the types whose input has shorthands.
const configPackage = "dstack/protocol/config"

func isConfig(t reflect.Type) bool {
	return t.PkgPath() == configPackage || t == reflect.TypeFor[volumeForm]() || t == reflect.TypeFor[hostForm]()
}

// schemaName is what a type is called in the document. 0.22.5 calls
// configurations so, and has "-Input" for what is wider than it is sent back.
func schemaName(t reflect.Type, m mode) string {
	name := strings.NewReplacer("[", "", "]", "", "float64", "Float", "int", "Int").Replace(t.Name())
	switch t {
	case reflect.TypeFor[hostForm]():
		name = "SSHHost"
	case reflect.TypeFor[selectorForm]():
		name = "InstanceSelector"
	case reflect.TypeFor[volumeForm]():
		name = "VolumeConfiguration"
	}
	if isConfig(t) {
		switch name {
		case "Task", "DevEnvironment", "Service", "Fleet", "Gateway":
			name += "Configuration"
		case "Resources", "CPU", "GPU", "Disk":
			name += "Spec"
		case "Probe":
			name += "Config"
		}
	}
	if m == input && !strings.HasSuffix(name, "Request") && !strings.HasSuffix(name, "Input") {
		name += "-Input"
	}
	return name
}

// special describes the types whose JSON is not that of their fields.
func (s *schemas) special(t reflect.Type, m mode) (schema object, known bool, err error) {
	text, number, truth := object{"type": "string"}, object{"type": "integer"}, object{"type": "boolean"}
	switch t {
	case reflect.TypeFor[api.Time]():
		schema = object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[config.EnvValue]():
		schema = anyOf(text, closed(object{"key": text}))
	case reflect.TypeFor[config.OffableDuration]():
		schema = anyOf(number, object{"const": "off"})
	case reflect.TypeFor[config.Blocks]():
		schema = anyOf(number, object{"const": "auto"}, object{"type": "null"})
	case reflect.TypeFor[config.HTTPS]():
		schema = anyOf(truth, object{"const": "auto"})
	case reflect.TypeFor[config.FleetNodes]():
		schema = object{
			"type": "object", "properties": object{"min": number, "max": nullable(number), "target": number},
			"required": []string{"max", "min"}, "additionalProperties": false,
		}
	case reflect.TypeFor[config.RetryPolicy]():
		schema = anyOf(truth, closed(object{"on_events": nullable(array(text)), "duration": nullable(number)}))
	case reflect.TypeFor[config.Model]():
		schema = anyOf(
			closed(object{"type": text, "name": text, "format": object{"const": config.ModelOpenAI}, "prefix": text}),
			closed(object{"type": text, "name": text, "format": object{"const": config.ModelTGI}, "chat_template": nullable(text), "eos_token": nullable(text)}),
		)
	case reflect.TypeFor[config.Mount]():
		schema = anyOf(
			closed(object{"name": anyOf(text, array(text)), "path": text}),
			closed(object{"instance_path": text, "path": text, "optional": truth}),
		)
	case reflect.TypeFor[config.TemplateParameter]():
		schema = anyOf(closed(object{"type": text}), closed(object{
			"type": object{"const": config.ParameterEnv}, "title": nullable(text), "name": nullable(text), "value": nullable(text),
		}))
	case reflect.TypeFor[config.AzureCreds](), reflect.TypeFor[config.GCPCreds](), reflect.TypeFor[config.OCICreds]():
		schema = object{"type": "object", "properties": object{"type": text}, "required": []string{"type"}}
	case reflect.TypeFor[config.KubernetesContext]():
		schema = object{"type": "object", "properties": object{"name": text, "proxy_jump": nullable(object{"type": "object"})}}
	case reflect.TypeFor[api.RepoData]():
		schema = repoData(m)
	default:
		return s.specialStructure(t, m)
	}
	if m == input && isConfig(t) {
		schema = shorthand(schema)
	}
	return schema, true, nil
}

// specialStructure describes the types that are written field by field, but
// not all fields, or in one of several forms.
func (s *schemas) specialStructure(t reflect.Type, m mode) (schema object, known bool, err error) {
	switch t {
	case reflect.TypeFor[config.Run]():
		schema, err = s.oneOf(m, reflect.TypeFor[config.Task](), reflect.TypeFor[config.DevEnvironment](), reflect.TypeFor[config.Service]())
	case reflect.TypeFor[config.Backend]():
		schema, err = s.oneOf(m, backendTypes()...)
	case reflect.TypeFor[config.Fleet](), reflect.TypeFor[config.Gateway]():
		schema, err = s.structure(t, m)
	case reflect.TypeFor[config.Volume]():
		schema, err = s.sparse(reflect.TypeFor[volumeForm](), m, "type", "backend")
	case reflect.TypeFor[config.InstanceSelector]():
		schema, err = s.sparse(reflect.TypeFor[selectorForm](), m)
		if m == input {
			schema = shorthand(schema)
		}
	case reflect.TypeFor[config.SSHHost]():
		schema, err = s.sparse(reflect.TypeFor[hostForm](), m, "hostname")
		schema = anyOf(schema, object{"type": "string"})
	case reflect.TypeFor[config.ServiceGateway]():
		schema, err = s.of(reflect.TypeFor[config.EntityReference](), m)
		schema = anyOf(object{"type": "boolean"}, schema)
		if m == input {
			schema = shorthand(schema)
		}
	case reflect.TypeFor[api.Run](), reflect.TypeFor[api.Fleet](), reflect.TypeFor[api.Gateway]():
		if m == input { // an echo of what the server sent, to be compared
			return object{"type": "object"}, true, nil
		}
		return nil, false, nil
	case reflect.TypeFor[api.RunSpec]():
		schema, err = s.withRequired(t, m, "configuration")
	case reflect.TypeFor[api.FleetSpec]():
		schema, err = s.withRequired(t, m, "configuration", "profile")
	default:
		return nil, false, nil
	}
	return schema, true, err
}

func (s *schemas) oneOf(m mode, types ...reflect.Type) (object, error) {
	var all []any
	for _, t := range types {
		one, err := s.structure(t, m)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return object{"anyOf": all}, nil
}

// sparse describes a struct of which only the fields of one form are there.
func (s *schemas) sparse(t reflect.Type, m mode, required ...string) (object, error) {
	ref, err := s.structure(t, m)
	name := schemaName(t, m)
	if full, ok := s.named[name].(object); ok {
		full = maps.Clone(full)
		delete(full, "required")
		if len(required) > 0 {
			full["required"] = required
		}
		s.named[name] = full
	}
	return ref, err
}

// withRequired describes a struct of which only some fields have to be sent.
func (s *schemas) withRequired(t reflect.Type, m mode, required ...string) (object, error) {
	if m == output {
		return s.structure(t, m)
	}
	return s.sparse(t, m, required...)
}

func repoData(m mode) object {
	text := object{"type": "string"}
	kind := func(name string) object { return object{"const": name} }
	remote := object{"repo_type": kind(api.RepoRemote), "repo_name": text}
	for _, name := range []string{"repo_branch", "repo_hash", "repo_config_name", "repo_config_email"} {
		remote[name] = nullable(text)
	}
	first := closed(remote)
	if m == input {
		first["required"] = []string{"repo_name", "repo_type"}
	}
	return anyOf(first, closed(object{"repo_type": kind(api.RepoLocal), "repo_dir": text}), closed(object{"repo_type": kind(api.RepoVirtual)}))
}

// shorthand is what a configuration may write shorter.
func shorthand(schema object) object {
	return anyOf(schema, object{"type": []string{"string", "number", "boolean"}})
}

func anyOf(all ...object) object {
	list := make([]any, len(all))
	for i := range all {
		list[i] = all[i]
	}
	return object{"anyOf": list}
}

// hasShorthand says whether a configuration may write a value of the type as a
// text or a number.
func hasShorthand(t reflect.Type) bool {
	if !isConfig(t) {
		return false
	}
	switch t {
	case reflect.TypeFor[config.CPU](), reflect.TypeFor[config.GPU](), reflect.TypeFor[config.Disk](), reflect.TypeFor[config.PortMapping](),
		reflect.TypeFor[config.RepoSpec](), reflect.TypeFor[config.FileMapping](), reflect.TypeFor[config.EntityReference](),
		reflect.TypeFor[config.Range[int]](), reflect.TypeFor[config.Range[float64]](), reflect.TypeFor[config.Resources]():
		return true
	}
	return false
}

// enumOf lists the values of types with few of them.
func enumOf(t reflect.Type) []string {
	switch t {
	case reflect.TypeFor[api.RunStatus]():
		return values(api.RunPending, api.RunSubmitted, api.RunProvisioning, api.RunRunning, api.RunTerminating, api.RunTerminated, api.RunFailed, api.RunDone)
	case reflect.TypeFor[api.JobStatus]():
		return values(api.JobSubmitted, api.JobProvisioning, api.JobPulling, api.JobRunning, api.JobTerminating,
			api.JobTerminated, api.JobAborted, api.JobFailed, api.JobDone)
	case reflect.TypeFor[api.InstanceStatus]():
		return values(api.InstancePending, api.InstanceProvisioning, api.InstanceIdle, api.InstanceBusy, api.InstanceTerminating, api.InstanceTerminated)
	case reflect.TypeFor[api.FleetStatus]():
		return values(api.FleetActive, api.FleetTerminating, api.FleetTerminated)
	case reflect.TypeFor[api.GatewayStatus]():
		return values(api.GatewaySubmitted, api.GatewayProvisioning, api.GatewayRunning, api.GatewayFailed)
	case reflect.TypeFor[api.GatewayReplicaStatus]():
		return values(api.ReplicaSubmitted, api.ReplicaProvisioning, api.ReplicaRunning, api.ReplicaTerminating, api.ReplicaTerminated)
	case reflect.TypeFor[api.VolumeStatus]():
		return values(api.VolumeSubmitted, api.VolumeProvisioning, api.VolumeActive, api.VolumeFailed)
	case reflect.TypeFor[api.HealthStatus]():
		return values(api.Healthy, api.HealthWarning, api.HealthFailure)
	case reflect.TypeFor[api.GlobalRole]():
		return []string{"admin", "user"}
	case reflect.TypeFor[api.ProjectRole]():
		return []string{"admin", "manager", "user"}
	}
	return nil
}

func values[T ~string](list ...T) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = string(list[i])
	}
	return out
}
