package schema

import (
	"reflect"

	"dstack/protocol/config"
)

const (
	maxPort     = 65535
	groupName   = `^[a-z0-9][a-z0-9-]{0,39}$`
	envItem     = `^[a-zA-Z_][a-zA-Z0-9_]*(=.*)?$`
	tagKey      = `^[_\-a-zA-Z0-9]{1,60}$`
	tagValue    = `^[a-zA-Z0-9 .:/=_\-+@]{0,256}$`
	reference   = `^[^/]+(/[^/]+)?$`
	mountText   = `^[^:]*:[^:]+$`
	blankFree   = `\S`
	cpuText     = `^[^:]+(:[^:]+)?$`
	gpuText     = `^[^:]+(:[^:]+)*$`
	capability  = `^\d+\.\d+$`
	userText    = `^[^:]+(:[^:]+)?$`
	vendorText  = `^([nN][vV][iI][dD][iI][aA]|[aA][mM][dD]|[gG][oO][oO][gG][lL][eE]|[iI][nN][tT][eE][lL]|[tT][eE][nN][sS][tT][oO][rR][rR][eE][nN][tT]|[tT][pP][uU]|[tT]{2})$`
	shellText   = `^(sh|bash|/.*)$`
	limitPrefix = `^/[^\s\\{}]*$`
	headerName  = `^[a-zA-Z0-9\-_]+$`
)

// specialType gives the schema of a type with shorthands.
func (b *builder) specialType(t reflect.Type) (node, bool) {
	switch t {
	case reflect.TypeFor[config.Env]():
		value := anyOf(text(), fieldsOf(node{"key": text()}, "key"))
		return anyOf(list(pattern(envItem), 0, 0), node{"type": "object", "additionalProperties": value}), true
	case reflect.TypeFor[config.PortMapping]():
		return anyOf(port(), pattern(`^((\d+|\*):)?\d+$`), b.portObject()), true
	case reflect.TypeFor[config.Mount]():
		return anyOf(pattern(mountText),
			fieldsOf(node{"name": anyOf(text(), list(text(), 0, 0)), "path": path()}, "name", "path"),
			fieldsOf(node{"instance_path": path(), "path": path(), "optional": boolean()}, "instance_path", "path")), true
	case reflect.TypeFor[config.RepoSpec]():
		return anyOf(length(1, 0), b.object(t)), true
	case reflect.TypeFor[config.FileMapping]():
		return anyOf(node{"type": "string"}, b.object(t)), true
	case reflect.TypeFor[config.Range[int]]():
		return rangeOf(integer(nil)), true
	case reflect.TypeFor[config.Range[float64]]():
		return rangeOf(size()), true
	case reflect.TypeFor[config.RetryPolicy]():
		events := list(enum(config.RetryNoCapacity, config.RetryInterruption, config.RetryError), 1, 0)
		return anyOf(boolean(), fieldsOf(node{"on_events": orNull(events), "duration": orNull(duration())})), true
	case reflect.TypeFor[config.OffableDuration]():
		return offable(), true
	case reflect.TypeFor[config.EntityReference]():
		return anyOf(pattern(reference), node{"type": "number"}, b.object(t)), true
	case reflect.TypeFor[config.InstanceSelector]():
		return b.selector(), true
	case reflect.TypeFor[map[string]string]():
		return node{"type": "object", "additionalProperties": pattern(tagValue), "propertyNames": pattern(tagKey)}, true
	}
	if s, ok := b.resourceType(t); ok {
		return s, true
	}
	return b.serviceType(t)
}

// resourceType is specialType for what hosts are asked for.
func (b *builder) resourceType(t reflect.Type) (node, bool) {
	switch t {
	case reflect.TypeFor[config.CPU]():
		return anyOf(node{"type": "integer", "minimum": 0}, pattern(cpuText), b.object(t),
			fieldsOf(node{"min": orNull(integer(nil)), "max": orNull(integer(nil))})), true
	case reflect.TypeFor[config.GPU]():
		return anyOf(node{"type": []any{"integer", "boolean"}}, pattern(gpuText), b.object(t)), true
	case reflect.TypeFor[config.Disk]():
		return anyOf(rangeText(), b.object(t)), true
	case reflect.TypeFor[config.Blocks]():
		return anyOf(enum("auto"), integer(least(1))), true
	case reflect.TypeFor[config.FleetNodes]():
		count := orNull(integer(nil))
		return anyOf(node{"type": "integer", "minimum": 0}, pattern(`^ *\d* *(\.\. *\d*)? *$`),
			fieldsOf(node{"min": count, "target": count, "max": count})), true
	case reflect.TypeFor[config.SSHHost]():
		host := fieldsOf(node{
			"hostname": text(), "port": orNull(integer(nil)), "user": orNull(text()), "identity_file": orNull(text()),
			"proxy_jump": orNull(b.object(reflect.TypeFor[config.SSHProxy]())), "internal_ip": orNull(text()),
			"ssh_key": orNull(b.object(reflect.TypeFor[config.SSHKey]())), "blocks": orNull(b.value(reflect.TypeFor[config.Blocks]())),
		}, "hostname")
		return anyOf(text(), host), true
	}
	return nil, false
}

// serviceType is specialType for services, gateways and presets.
func (b *builder) serviceType(t reflect.Type) (node, bool) {
	typed := func(typ string, properties node, required ...any) node {
		properties["type"] = enum(typ)
		return fieldsOf(properties, append(required, "type")...)
	}
	switch t {
	case reflect.TypeFor[config.ServiceGateway](), reflect.TypeFor[config.PresetGateway]():
		return anyOf(boolean(), b.value(reflect.TypeFor[config.EntityReference]())), true
	case reflect.TypeFor[config.HTTPS]():
		return anyOf(boolean(), enum("auto")), true
	case reflect.TypeFor[config.Model]():
		chat := enum("chat")
		return anyOf(node{"type": "string"},
			fieldsOf(node{"format": enum(config.ModelOpenAI), "type": chat, "name": text(), "prefix": text()}, "format", "name"),
			fieldsOf(node{"format": enum(config.ModelTGI), "type": chat, "name": text(), "chat_template": orNull(text()), "eos_token": orNull(text())}, "format", "name")), true
	case reflect.TypeFor[config.RateLimitKey]():
		header := length(0, 500)
		header["pattern"] = headerName
		return anyOf(typed(config.RateLimitByAddress, node{}), typed(config.RateLimitByHeader, node{"header": header}, "header")), true
	case reflect.TypeFor[config.Router]():
		return fieldsOf(node{"type": enum("smg", config.RouterDynamo, config.RouterSGLang)}), true
	case reflect.TypeFor[config.LoadBalancer]():
		return typed(config.LoadBalancerALB, node{}), true
	case reflect.TypeFor[config.Certificate]():
		return anyOf(typed(config.CertificateLetsEncrypt, node{}), typed(config.CertificateACM, node{"arn": text()}, "arn"),
			typed(config.CertificateGCP, node{"name": text()}, "name")), true
	case reflect.TypeFor[config.PresetModel]():
		return anyOf(notBlank(), fieldsOf(node{"repo": notBlank(), "name": orNull(notBlank())}, "repo"), fieldsOf(node{"base": notBlank()}, "base")), true
	case reflect.TypeFor[config.PresetPrompt]():
		prompt := length(1, 10_000)
		prompt["pattern"] = blankFree
		return anyOf(prompt, fieldsOf(node{"path": notBlank()}, "path")), true
	}
	return nil, false
}

func port() node { return node{"type": "integer", "minimum": 1, "maximum": maxPort} }

func (b *builder) portObject() node {
	number := integer(node{"minimum": 1, "maximum": maxPort})
	return fieldsOf(node{"local_port": orNull(number), "container_port": number}, "container_port")
}

// path is a mount path.
func path() node { return pattern("^/") }

// rangeText is a range of sizes that is no object.
func rangeText() node { return anyOf(size(), pattern(rangePattern)) }

// notBlank is a text with more than blanks.
func notBlank() node { return node{"type": []any{"string", "number"}, "pattern": blankFree} }

func (b *builder) selector() node {
	name := length(1, 0)
	return anyOf(node{"type": "string", "minLength": 1}, fieldsOf(node{"name": name}, "name"), fieldsOf(node{"hostname": name}, "hostname"),
		fieldsOf(node{"fleet": b.value(reflect.TypeFor[config.EntityReference]()), "instance": integer(least(0))}, "fleet", "instance"))
}
