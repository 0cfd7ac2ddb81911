package config

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"dstack/protocol/internal/decode"
)

// BackendTypes are all backend types of 0.22.5 in its order; clients refuse
// others.
var BackendTypes = []string{
	"amddevcloud", "aws", "azure", "cloudrift", "crusoe", "cudo", "datacrunch", "daytona", "digitalocean",
	"dstack", "gcp", "hotaisle", "jarvislabs", "kubernetes", "lambda", "lium", "remote", "nebius", "oci",
	"runpod", "seeweb", "tensordock", "vastai", "verda", "vultr", "slurm",
}

// Values of the enumerated profile parameters.
const (
	SpotPolicySpot     = "spot"
	SpotPolicyOnDemand = "on-demand"
	SpotPolicyAuto     = "auto"

	CreationReuse         = "reuse"
	CreationReuseOrCreate = "reuse-or-create"

	StartupAny          = "any"
	StartupMasterFirst  = "master-first"
	StartupWorkersFirst = "workers-first"

	StopAllDone    = "all-done"
	StopMasterDone = "master-done"

	RetryNoCapacity   = "no-capacity"
	RetryInterruption = "interruption"
	RetryError        = "error"
)

// minUtilizationWindow is the shortest utilization_policy.time_window, in
// seconds.
const minUtilizationWindow = 300

// DecodeProfiles parses a profiles.yml. path is used in errors, which are
// [Errors].
func DecodeProfiles(path string, data []byte) ([]Profile, error) {
	root, err := decode.YAML(path, data)
	if err != nil {
		return nil, err
	}
	return decode.Read(path, root, func(v decode.Value) []Profile {
		o := v.Object()
		defer o.Done()
		return decode.Required(o, "profiles", decode.ListOf(ReadProfile))
	})
}

// ReadProfile reads one profile.
func ReadProfile(v decode.Value) Profile {
	o := v.Object()
	defer o.Done()
	return Profile{
		ProfileParams: readProfileParams(o),
		Name:          decode.Field(o, "name", decode.Text),
		Default:       decode.Field(o, "default", decode.Boolean),
	}
}

// readProfileParams reads the parameters of spec/configuration.md 5.
func readProfileParams(o *decode.Object) ProfileParams {
	return ProfileParams{
		Backends:          decode.Field(o, "backends", decode.OptionalList(decode.Enum(BackendTypes...))),
		Regions:           decode.Field(o, "regions", decode.OptionalList(decode.Text)),
		AvailabilityZones: decode.Field(o, "availability_zones", decode.OptionalList(decode.Text)),
		InstanceTypes:     decode.Field(o, "instance_types", decode.OptionalList(decode.Text)),
		Reservation:       decode.Field(o, "reservation", decode.Optional(decode.Text)),
		SpotPolicy:        decode.Field(o, "spot_policy", decode.Optional(readSpotPolicy)),
		Retry:             decode.Field(o, "retry", decode.Optional(readRetry)),
		MaxDuration:       decode.Field(o, "max_duration", readOffable),
		StopDuration:      decode.Field(o, "stop_duration", readOffable),
		MaxPrice:          decode.Field(o, "max_price", decode.Optional(decode.Positive)),
		CreationPolicy:    decode.Field(o, "creation_policy", decode.Optional(decode.Enum(CreationReuse, CreationReuseOrCreate))),
		IdleDuration:      decode.Field(o, "idle_duration", readIdle),
		UtilizationPolicy: decode.Field(o, "utilization_policy", decode.Optional(readUtilizationPolicy)),
		StartupOrder:      decode.Field(o, "startup_order", decode.Optional(decode.Enum(StartupAny, StartupMasterFirst, StartupWorkersFirst))),
		StopCriteria:      decode.Field(o, "stop_criteria", decode.Optional(decode.Enum(StopAllDone, StopMasterDone))),
		Schedule:          decode.Field(o, "schedule", decode.Optional(readSchedule)),
		Fleets:            decode.Field(o, "fleets", decode.OptionalList(readReference)),
		Instances:         decode.Field(o, "instances", readSelectors),
		Tags:              decode.Field(o, "tags", readTags),
		BackendOptions:    decode.Field(o, "backend_options", readBackendOptions),
	}
}

func readSpotPolicy(v decode.Value) string {
	return decode.Enum(SpotPolicySpot, SpotPolicyOnDemand, SpotPolicyAuto)(v)
}

func readRetry(v decode.Value) RetryPolicy {
	if v.Kind() != decode.Map {
		b := decode.Instead(decode.Boolean, "bool_parsing", "must be a boolean or a mapping", "true, false or {on_events, duration}")(v)
		return RetryPolicy{Bool: &b}
	}
	o := v.Object()
	defer o.Done()
	return RetryPolicy{
		OnEvents: decode.Field(o, "on_events", readRetryEvents),
		Duration: decode.Field(o, "duration", decode.Optional(readDuration)),
	}
}

func readRetryEvents(v decode.Value) []string {
	events, ok := decode.Try(v, decode.OptionalList(decode.Enum(RetryNoCapacity, RetryInterruption, RetryError)))
	if ok && events != nil && len(events) == 0 {
		v.FailBare("value_error", "`on_events` cannot be empty", "")
	}
	return events
}

func readUtilizationPolicy(v decode.Value) UtilizationPolicy {
	o := v.Object()
	defer o.Done()
	return UtilizationPolicy{
		MinGPUUtilization: decode.Required(o, "min_gpu_utilization", decode.IntBetween(0, 100)),
		TimeWindow: decode.Required(o, "time_window", func(v decode.Value) int {
			seconds, ok := decode.Try(v, readDuration)
			if ok && seconds < minUtilizationWindow {
				v.FailValue("must be at least 5m", "Minimum time_window is 5m", "")
			}
			return seconds
		}),
	}
}

func readSchedule(v decode.Value) Schedule {
	o := v.Object()
	defer o.Done()
	return Schedule{Cron: decode.Required(o, "cron", func(v decode.Value) []string {
		if v.Kind() != decode.List {
			return []string{readCron(v, v)}
		}
		crons := decode.ListOf(func(one decode.Value) string { return readCron(one, v) })(v)
		if len(crons) == 0 {
			v.FailBare("value_error", "At least one cron expression must be specified", "")
		}
		return crons
	})}
}

// readCron reads one expression of field.
func readCron(v, field decode.Value) string {
	s, ok := decode.Try(v, decode.Text)
	if !ok {
		return s
	}
	if _, err := ParseCron(s); err != nil {
		v.For(field).FailBare("value_error", err.Error(), "")
	}
	return s
}

// readReference reads NAME, PROJECT/NAME or {project, name}.
func readReference(v decode.Value) EntityReference {
	switch v.Kind() {
	case decode.String, decode.Int, decode.Float:
		ref, ok := ParseReference(decode.Text(v))
		if !ok {
			v.FailValue("must be a reference", "Invalid entity reference. Only `<name>` or `<project>/<name>` formats are allowed", "NAME or PROJECT/NAME")
		}
		return ref
	case decode.Map:
		o := v.Object()
		defer o.Done()
		return EntityReference{
			Project: decode.Field(o, "project", decode.Optional(decode.Text)),
			Name:    decode.Required(o, "name", decode.Text),
		}
	}
	v.Fail("string_type", "must be a reference", "NAME, PROJECT/NAME or {project, name}")
	return EntityReference{}
}

// ParseReference parses NAME or PROJECT/NAME.
func ParseReference(s string) (EntityReference, bool) {
	project, name, both := strings.Cut(s, "/")
	switch {
	case !both:
		return EntityReference{Name: s}, s != ""
	case project == "" || name == "" || strings.Contains(name, "/"):
		return EntityReference{}, false
	}
	return EntityReference{Project: &project, Name: name}, true
}

// String writes the short form.
func (r EntityReference) String() string {
	if r.Project == nil {
		return r.Name
	}
	return *r.Project + "/" + r.Name
}

func readSelectors(v decode.Value) []InstanceSelector {
	return decode.AtLeastOne(decode.OptionalList(readSelector))(v)
}

func readSelector(v decode.Value) InstanceSelector {
	n := v.Node()
	if n.Kind == decode.String {
		name := readFilled(v.At(n, "name"))
		return InstanceSelector{Name: &name}
	}
	if n.Kind != decode.Map {
		v.Fail("model_attributes_type", "must be an instance", "NAME, {name}, {hostname} or {fleet, instance}")
		return InstanceSelector{}
	}
	o := v.Object()
	defer o.Done()
	switch {
	case n.Lookup("name") != nil:
		return InstanceSelector{Name: new(decode.Required(o, "name", readFilled))}
	case n.Lookup("hostname") != nil:
		return InstanceSelector{Hostname: new(decode.Required(o, "hostname", readFilled))}
	}
	fleet := decode.Required(o, "fleet", readReference)
	instance := decode.Required(o, "instance", decode.IntMin(0))
	return InstanceSelector{Fleet: &fleet, Instance: &instance}
}

// readFilled reads a text that is not empty.
func readFilled(v decode.Value) string {
	return decode.TextOf(1, maxText)(v)
}

var (
	tagKey   = regexp.MustCompile(`^[_\-a-zA-Z0-9]{1,60}$`)
	tagValue = regexp.MustCompile(`^[a-zA-Z0-9 .:/=_\-+@]{0,256}$`)
)

func readTags(v decode.Value) map[string]string {
	n := v.Node()
	if n.Kind == decode.Null {
		return nil
	}
	if n.Kind != decode.Map {
		v.Fail("dict_type", "must be a mapping", "")
		return nil
	}
	tags := map[string]string{}
	for _, p := range n.Pairs {
		at := v.At(p.Value, p.Key.Text)
		switch {
		case p.Key.Kind != decode.String || !tagKey.MatchString(p.Key.Text):
			v.At(p.Key).FailValue(fmt.Sprintf("tag key %q must be up to 60 letters, digits, - and _", p.Key.Text),
				fmt.Sprintf("Invalid tag key %s. The key must match regex '%s'", p.Key.Text, tagKey), "")
		case p.Value.Kind != decode.String:
			at.FailHint("string_type", "tag value must be a string", "put it in quotes")
		case !tagValue.MatchString(p.Value.Text):
			at.For(v).FailValue("tag value has a wrong character or is too long",
				fmt.Sprintf("Invalid tag value %s. The value must match regex '%s'", p.Value.Text, tagValue), "up to 256 letters, digits, blanks and . : / = _ - + @")
		default:
			tags[p.Key.Text] = p.Value.Text
		}
	}
	return tags
}

// vastaiOptions is the only kind of backend_options.
type vastaiOptions struct {
	Type           string   `json:"type"`
	OfferOrder     *string  `json:"offer_order"`
	MinReliability *float64 `json:"min_reliability"`
	MinScore       *int     `json:"min_score"`
}

func readBackendOptions(v decode.Value) []json.RawMessage {
	options, ok := decode.Try(v, decode.OptionalList(readVastaiOptions))
	if !ok || options == nil {
		return nil
	}
	if len(options) > 1 {
		v.FailBare("value_error", "backend_options contains duplicate entry for backend 'vastai'", "")
	}
	raw := make([]json.RawMessage, 0, len(options))
	for _, option := range options {
		text, err := json.Marshal(option)
		if err != nil { // only texts and finite numbers: cannot happen
			v.FailBare("value_error", err.Error(), "")
		}
		raw = append(raw, text)
	}
	return raw
}

func readVastaiOptions(v decode.Value) vastaiOptions {
	o := v.Object()
	defer o.Done()
	return vastaiOptions{
		Type:           decode.FieldOr(o, "type", "vastai", decode.Literal("vastai")),
		OfferOrder:     decode.Field(o, "offer_order", decode.Optional(decode.Enum("score", "price"))),
		MinReliability: decode.Field(o, "min_reliability", decode.Optional(decode.NumberBetween(0, 1))),
		MinScore:       decode.Field(o, "min_score", decode.Optional(decode.IntMin(0))),
	}
}
