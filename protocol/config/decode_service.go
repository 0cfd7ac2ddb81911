package config

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"unicode"

	"dstack/protocol/internal/decode"
)

// readService reads `type: service` (spec: configuration.md 6.4).
func readService(v decode.Value) Service {
	o := v.Object()
	o.Has("type")
	s, ok := decode.Try(v, func(decode.Value) Service {
		s := Service{
			Type:          TypeService,
			Port:          decode.Required(o, "port", readServicePort),
			Gateway:       decode.Field(o, "gateway", decode.Optional(readServiceGateway)),
			StripPrefix:   decode.FieldOr(o, "strip_prefix", true, decode.Boolean),
			Model:         decode.Field(o, "model", decode.Optional(readModel)),
			HTTPS:         decode.Field(o, "https", decode.Optional(readHTTPS)),
			Auth:          decode.FieldOr(o, "auth", true, decode.Boolean),
			Scaling:       decode.Field(o, "scaling", decode.Optional(readScaling)),
			RateLimits:    decode.Field(o, "rate_limits", readRateLimits),
			Probes:        decode.Field(o, "probes", readProbes),
			Groups:        decode.Field(o, "groups", readReplicaGroups),
			Commands:      decode.Field(o, "commands", decode.ListOf(decode.Text)),
			RunBase:       readRunBase(o),
			ProfileParams: readProfileParams(o),
		}
		if legacyGroups(o) {
			s.Groups = readReplicaGroups(o.At(o.Node().Lookup("replicas"), "groups"))
		} else {
			s.Replicas = decode.Field(o, "replicas", decode.Optional(readReplicas))
		}
		return s
	})
	o.Done()
	if ok {
		checkService(o, s)
	}
	return s
}

// legacyGroups says that `replicas` holds what is called `groups` since.
func legacyGroups(o *decode.Object) bool {
	return o.Has("replicas") && o.Child("replicas").Kind() == decode.List
}

// readServicePort reads `port` of a service: PORT, LOCAL:PORT or an object.
func readServicePort(v decode.Value) PortMapping {
	const forms = "PORT, LOCAL:PORT or {local_port, container_port}"
	n := v.Node()
	switch {
	case n.Kind == decode.Map:
		return readPort(v)
	case n.Sexagesimal():
		checkSexagesimal(v, v)
		return PortMapping{LocalPort: new(defaultServicePort), ContainerPort: int(n.Int)}
	case n.Kind == decode.String && servicePorts.MatchString(n.Text):
		return readPort(v)
	}
	port, ok := decode.Try(v, decode.Instead(decode.Integer, "model_attributes_type", "must be a port", forms))
	if ok {
		decode.CheckPositive(v, port, maxPort)
	}
	return PortMapping{LocalPort: new(defaultServicePort), ContainerPort: port}
}

// defaultServicePort is what local_port is if only the port is given.
const defaultServicePort = 80

var servicePorts = regexp.MustCompile(`^[0-9]+:[0-9]+$`)

// readServiceGateway reads a boolean or a reference. Texts that read as a
// boolean are one.
func readServiceGateway(v decode.Value) ServiceGateway {
	if on, ok := asBoolean(v); ok {
		return ServiceGateway{Enabled: on}
	}
	ref := readReference(v)
	return ServiceGateway{Enabled: true, Ref: &ref}
}

// asBoolean reads a boolean if the value is one in any spelling.
func asBoolean(v decode.Value) (bool, bool) {
	return decode.Silent(v, decode.Boolean)
}

func readHTTPS(v decode.Value) HTTPS {
	if v.Kind() == decode.String && v.Node().Text == "auto" {
		return HTTPS{Auto: true}
	}
	return HTTPS{On: decode.Instead(decode.Boolean, "bool_parsing", "must be a boolean or auto", "true, false or auto")(v)}
}

func readModel(v decode.Value) Model {
	switch v.Kind() {
	case decode.Map:
	case decode.String:
		return Model{Type: "chat", Name: v.Node().Text, Format: ModelOpenAI, Prefix: "/v1"}
	default:
		v.Fail("model_attributes_type", "must be the name of a model or a mapping", "NAME or {name, format}")
		return Model{}
	}
	format, o := decode.Variant(v, "format", ModelTGI, ModelOpenAI)
	if format == "" {
		return Model{}
	}
	defer o.Done()
	m := Model{
		Type:   decode.FieldOr(o, "type", "chat", decode.Literal("chat")),
		Name:   decode.Required(o, "name", decode.Text),
		Format: format,
	}
	if format == ModelOpenAI {
		m.Prefix = decode.FieldOr(o, "prefix", "/v1", decode.Text)
		return m
	}
	m.ChatTemplate = decode.Field(o, "chat_template", decode.Optional(decode.Text))
	m.EOSToken = decode.Field(o, "eos_token", decode.Optional(decode.Text))
	return m
}

// readReplicas reads a range of replicas: its maximum is needed, a missing
// minimum is 0.
func readReplicas(v decode.Value) Range[int] {
	r, ok := decode.Try(v, readRange(decode.Integer))
	if !ok {
		return r
	}
	switch {
	case r.Max == nil:
		v.FailBare("value_error", "The maximum number of replicas is required", "write MIN..MAX")
	case r.Min == nil:
		r.Min = new(0)
		fallthrough
	default:
		if *r.Min < 0 {
			v.FailBare("value_error", "The minimum number of replicas must be greater than or equal to 0", "")
		}
	}
	return r
}

// Values of scaling.
const (
	metricRPS             = "rps"
	defaultScaleUpDelay   = 300
	defaultScaleDownDelay = 600
)

func readScaling(v decode.Value) Scaling {
	o := v.Object()
	defer o.Done()
	return Scaling{
		Metric:         decode.Required(o, "metric", decode.Literal(metricRPS)),
		Target:         decode.Required(o, "target", decode.Positive),
		Window:         decode.Field(o, "window", decode.Optional(readWindow)),
		ScaleUpDelay:   decode.FieldOr(o, "scale_up_delay", defaultScaleUpDelay, readDuration),
		ScaleDownDelay: decode.FieldOr(o, "scale_down_delay", defaultScaleDownDelay, readDuration),
	}
}

func readWindow(v decode.Value) int {
	seconds, ok := decode.Try(v, readDuration)
	if ok && seconds != 30 && seconds != 60 && seconds != 300 {
		v.FailBare("value_error", "Window must be one of: `30s`, `60s`, `300s`", "")
	}
	return seconds
}

// Limits of rate_limits.
const (
	minRPS       = 1.0 / 60
	maxRPS       = 153722867280912930
	maxLimitPath = 4094
	maxHeader    = 500
)

var (
	limitPrefix = regexp.MustCompile(`^/[^\s\\{}]*$`)
	headerName  = regexp.MustCompile(`^[a-zA-Z0-9-_]+$`)
)

func readRateLimits(v decode.Value) List[RateLimit] {
	limits, ok := decode.Try(v, decode.ListOf(readRateLimit))
	if !ok {
		return limits
	}
	seen := map[string]bool{}
	for _, limit := range limits {
		if seen[limit.Prefix] {
			v.FailBare("value_error", fmt.Sprintf("Prefixes ['%s'] are used more than once. Each rate limit should have a unique path prefix", limit.Prefix), "")
		}
		seen[limit.Prefix] = true
	}
	return limits
}

func readRateLimit(v decode.Value) RateLimit {
	o := v.Object()
	defer o.Done()
	return RateLimit{
		Prefix: decode.FieldOr(o, "prefix", "/", decode.Both(decode.TextOf(0, maxLimitPath), decode.Matching(limitPrefix))),
		Key:    decode.FieldOr(o, "key", RateLimitKey{Type: RateLimitByAddress}, readRateLimitKey),
		RPS:    decode.Required(o, "rps", decode.NumberBetween(minRPS, maxRPS)),
		Burst:  decode.Field(o, "burst", decode.IntBetween(0, math.MaxInt64)),
	}
}

func readRateLimitKey(v decode.Value) RateLimitKey {
	kind, o := decode.Variant(v, "type", RateLimitByAddress, RateLimitByHeader)
	key := RateLimitKey{Type: kind}
	if kind == "" {
		return key
	}
	defer o.Done()
	if kind == RateLimitByHeader {
		key.Header = decode.Required(o, "header", decode.Both(decode.TextOf(0, maxHeader), decode.Matching(headerName)))
	}
	return key
}

// Limits of probes.
const (
	maxProbeURL    = 2048
	maxProbeBody   = 2048
	maxHeaders     = 16
	maxHeaderName  = 256
	maxHeaderValue = 2048
)

func readProbes(v decode.Value) []Probe {
	probes, ok := decode.Try(v, decode.OptionalList(readProbe))
	if !ok {
		return probes
	}
	seen := map[string]bool{}
	for _, probe := range probes {
		key := probe.key()
		if seen[key] {
			v.FailBare("value_error", "Probes must be unique", "two of them are equal")
			break
		}
		seen[key] = true
	}
	return probes
}

func readProbe(v decode.Value) Probe {
	o := v.Object()
	defer o.Done()
	seconds := func(what string) decode.Reader[int] {
		return func(v decode.Value) int {
			s, ok := decode.Try(v, readDuration)
			if ok && s < 1 {
				v.FailBare("value_error", fmt.Sprintf("Probe %s cannot be shorter than 1s", what), "")
			}
			return s
		}
	}
	p, ok := decode.Try(v, func(decode.Value) Probe {
		return Probe{
			Type:       decode.Required(o, "type", decode.Literal("http")),
			URL:        decode.Field(o, "url", decode.Optional(readProbeURL)),
			Method:     decode.Field(o, "method", decode.Optional(decode.Literal("get", "post", "put", "delete", "patch", "head"))),
			Headers:    decode.Field(o, "headers", decode.AtMost(maxHeaders, decode.ListOf(readProbeHeader))),
			Body:       decode.Field(o, "body", decode.Optional(decode.TextOf(1, maxProbeBody))),
			Timeout:    decode.Field(o, "timeout", decode.Optional(seconds("timeout"))),
			Interval:   decode.Field(o, "interval", decode.Optional(seconds("interval"))),
			ReadyAfter: decode.Field(o, "ready_after", decode.Optional(decode.IntMin(1))),
			UntilReady: decode.Field(o, "until_ready", decode.Optional(decode.Boolean)),
		}
	})
	if ok && p.Body != nil && p.Method != nil && (*p.Method == "get" || *p.Method == "head") {
		o.FailBare("value_error", fmt.Sprintf("Cannot set request body for the `%s` method", *p.Method), "")
	}
	if ok && p.Body != nil && p.Method == nil {
		o.Child("body").Warn("the probe sends a body with its default method get", "set `method: post`")
	}
	return p
}

func readProbeURL(v decode.Value) string {
	s, ok := decode.Try(v, decode.Text)
	switch {
	case !ok:
	case !strings.HasPrefix(s, "/"):
		v.Fail("value_error", "Must start with `/`", "")
	case len([]rune(s)) > maxProbeURL:
		v.FailBare("value_error", fmt.Sprintf("Cannot be longer than %d characters", maxProbeURL), "")
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		v.FailBare("value_error", "Cannot contain non-printable characters", "")
	}
	return s
}

func readProbeHeader(v decode.Value) ProbeHeader {
	o := v.Object()
	defer o.Done()
	return ProbeHeader{
		Name:  decode.Required(o, "name", decode.TextOf(1, maxHeaderName)),
		Value: decode.Required(o, "value", decode.TextOf(1, maxHeaderValue)),
	}
}
