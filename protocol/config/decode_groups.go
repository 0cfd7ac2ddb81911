package config

import (
	"fmt"
	"strconv"
	"strings"

	"dstack/protocol/internal/decode"
)

func readReplicaGroups(v decode.Value) []ReplicaGroup {
	return readNamedGroups(v, "replica", readReplicaGroup, func(g *ReplicaGroup) **string { return &g.Name })
}

// readNamedGroups reads a list of groups with unique names; one without a name
// is called by its index. kind is how errors call the groups.
func readNamedGroups[G any](v decode.Value, kind string, read decode.Reader[G], nameOf func(*G) **string) []G {
	if v.Kind() == decode.Null {
		return nil
	}
	groups, ok := decode.Try(v, decode.ListOf(read))
	if !ok {
		return groups
	}
	if len(groups) == 0 {
		v.FailBare("value_error", "`groups` cannot be an empty list", "")
	}
	seen := map[string]bool{}
	for i := range groups {
		name := nameOf(&groups[i])
		if *name == nil {
			*name = new(strconv.Itoa(i))
		}
		if seen[**name] {
			v.FailBare("value_error", fmt.Sprintf("Duplicate %s group names found: ['%s']. Each %s group must have a unique name.", kind, **name, kind), "")
		}
		seen[**name] = true
	}
	return groups
}

func readReplicaGroup(v decode.Value) ReplicaGroup {
	o := v.Object()
	defer o.Done()
	g, ok := decode.Try(v, func(decode.Value) ReplicaGroup {
		g := ReplicaGroup{
			Name:        decode.Field(o, "name", decode.Optional(readGroupName("Resource name"))),
			Scaling:     decode.Field(o, "scaling", decode.Optional(readScaling)),
			Resources:   decode.FieldOr(o, "resources", DefaultResources(), readResources),
			SpotPolicy:  decode.Field(o, "spot_policy", decode.Optional(readSpotPolicy)),
			Reservation: decode.Field(o, "reservation", decode.Optional(decode.Text)),
			Commands:    decode.Field(o, "commands", decode.ListOf(decode.Text)),
			Image:       decode.Field(o, "image", decode.Optional(decode.Text)),
			Python:      decode.Field(o, "python", decode.Optional(readPython)),
			NVCC:        decode.Field(o, "nvcc", decode.Optional(decode.Boolean)),
			Docker:      decode.Field(o, "docker", decode.Optional(decode.Boolean)),
			Privileged:  decode.Field(o, "privileged", decode.Optional(decode.Boolean)),
			Router:      decode.Field(o, "router", decode.Optional(readRouter)),
		}
		if o.Has("count") && !o.Has("replicas") { // the old name
			g.Replicas = readReplicas(o.At(o.Node().Lookup("count"), "replicas"))
		} else {
			g.Replicas = decode.Required(o, "replicas", readReplicas)
		}
		return g
	})
	if ok && o.Valid() {
		checkReplicaGroup(o, g)
	}
	return g
}

// checkReplicaGroup applies the rules inside one group.
func checkReplicaGroup(o *decode.Object, g ReplicaGroup) {
	checkScaling(o, &g.Replicas, g.Scaling)
	image := filled(g.Image)
	if image && g.Python != nil {
		o.Child("python").FailBare("value_error", "`image` and `python` are mutually exclusive within a replica group", "")
	}
	if !isTrue(g.Docker) {
		return
	}
	excludeDocker(o, " within a replica group", image, g.Python != nil, isTrue(g.NVCC))
	if isReal(o, "privileged") && !*g.Privileged {
		o.Child("privileged").FailBare("value_error", "`privileged: false` is incompatible with `docker: true` within a replica group (docker-in-docker requires privileged mode)", "")
	}
}

func readRouter(v decode.Value) Router {
	o := v.Object()
	defer o.Done()
	r := Router{Type: decode.FieldOr(o, "type", RouterSGLang, func(v decode.Value) string {
		if v.Kind() == decode.String && v.Node().Text == RouterSGLang {
			return RouterSGLang // what it was called before, and still is on the wire
		}
		return decode.Enum("smg", RouterDynamo)(v)
	})}
	if r.Type == "smg" {
		r.Type = RouterSGLang
	}
	return r
}

// checkScaling demands scaling for a range of replicas and forbids it for a
// fixed number.
func checkScaling(o *decode.Object, replicas *Range[int], scaling *Scaling) {
	if replicas == nil {
		return
	}
	isRange := *replicas.Min != *replicas.Max
	switch {
	case isRange && scaling == nil:
		o.FailField("replicas", "value_error", "When you set `replicas` to a range, ensure to specify `scaling`.", "")
	case !isRange && scaling != nil:
		o.FailField("scaling", "value_error", "To use `scaling`, `replicas` must be set to a range.", "")
	}
}

// checkService applies the rules between fields of a service.
func checkService(o *decode.Object, s Service) {
	checkImageSources(o, s.RunBase)
	if s.Groups == nil {
		checkScaling(o, s.Replicas, s.Scaling)
		if len(s.Commands) == 0 && !filled(s.Image) {
			o.FailBare("value_error", "Either `commands` or `image` must be set", "")
		}
		if s.Replicas == nil && s.Scaling != nil {
			o.Child("scaling").Warn("has no effect without `replicas`", "set `replicas: MIN..MAX`")
		}
		return
	}
	if s.Replicas != nil {
		o.FailField("replicas", "value_error", "`replicas` and `groups` are mutually exclusive", "")
	}
	if len(s.Commands) > 0 {
		o.FailField("commands", "value_error", "Top-level `commands` is not allowed when `groups` is set. Specify `commands` in each replica group instead.", "")
	}
	if s.Scaling != nil {
		o.FailField("scaling", "value_error", "Top-level `scaling` is not allowed when `groups` is set. Specify `scaling` in each replica group instead.", "")
	}
	for _, g := range s.Groups {
		if len(g.Commands) == 0 && g.Image == nil && s.Image == nil {
			o.FailField("groups", "value_error", fmt.Sprintf("Replica group '%s': either `commands` or `image` must be set in the group, or `image` at the service level.", *g.Name), "")
		}
	}
	checkBothLevels(o, s)
	checkRouters(o, s)
	warnIgnoredResources(o)
}

func warnIgnoredResources(o *decode.Object) {
	if o.Node().Lookup("resources") != nil {
		o.Child("resources").Warn("is ignored when `groups` is set", "set it inside the groups")
	}
}

// levelField is a field that both the service and its groups have. inGroup
// says whether a group sets it, even to false.
type levelField struct {
	name      string
	onService bool
	inGroup   func(ReplicaGroup) bool
}

func levelFields(s Service) map[string]levelField {
	fields := map[string]levelField{}
	for _, f := range []levelField{
		{"image", s.Image != nil, func(g ReplicaGroup) bool { return g.Image != nil }},
		{"docker", isTrue(s.Docker), func(g ReplicaGroup) bool { return g.Docker != nil }},
		{"python", s.Python != nil, func(g ReplicaGroup) bool { return g.Python != nil }},
		{"nvcc", isTrue(s.NVCC), func(g ReplicaGroup) bool { return g.NVCC != nil }},
		{"privileged", s.Privileged, func(g ReplicaGroup) bool { return g.Privileged != nil }},
		{"spot_policy", s.SpotPolicy != nil, func(g ReplicaGroup) bool { return g.SpotPolicy != nil }},
		{"reservation", s.Reservation != nil, func(g ReplicaGroup) bool { return g.Reservation != nil }},
	} {
		fields[f.name] = f
	}
	return fields
}

// checkBothLevels rejects a field on the service and in a group, and two ways
// to choose the image on the two levels.
func checkBothLevels(o *decode.Object, s Service) {
	fields := levelFields(s)
	names := func(field string) string {
		var found []string
		for _, g := range s.Groups {
			if fields[field].inGroup(g) {
				found = append(found, "'"+*g.Name+"'")
			}
		}
		return strings.Join(found, ", ")
	}
	for _, field := range []string{"image", "docker", "python", "nvcc", "privileged", "spot_policy", "reservation"} {
		if groups := names(field); fields[field].onService && groups != "" {
			o.FailField(field, "value_error", fmt.Sprintf("`%s` is set at both the service level and in replica group(s) [%s]. "+
				"Set `%s` in one place only — either at the service level (all groups inherit) or per group, but not both.", field, groups, field), "")
		}
	}
	for _, pair := range []struct{ service, group string }{
		{"image", "docker"}, {"image", "python"}, {"image", "nvcc"},
		{"docker", "image"}, {"docker", "python"}, {"docker", "nvcc"},
		{"python", "image"}, {"python", "docker"}, {"nvcc", "image"}, {"nvcc", "docker"},
	} {
		if groups := names(pair.group); fields[pair.service].onService && groups != "" {
			o.FailField(pair.service, "value_error", fmt.Sprintf("Service-level `%s` conflicts with group-level `%s` in replica group(s) [%s]. "+
				"These image-source fields are mutually exclusive.", pair.service, pair.group, groups), "")
		}
	}
}

func checkRouters(o *decode.Object, s Service) {
	routers := 0
	for _, g := range s.Groups {
		if g.Router == nil {
			continue
		}
		routers++
		if *g.Replicas.Min != 1 || *g.Replicas.Max != 1 {
			o.FailField("groups", "value_error", "For now replica group with `router` must have `replicas: 1`.", "")
		}
	}
	if routers > 1 {
		o.FailField("groups", "value_error", "At most one replica group may specify `router`.", "")
	}
}

// excludeDocker rejects other ways to choose the image beside `docker: true`.
// Only a real boolean counts, as in 0.22.5.
func excludeDocker(o *decode.Object, where string, image, python, nvcc bool) {
	for _, f := range []struct {
		name string
		set  bool
	}{{"image", image}, {"python", python}, {"nvcc", nvcc}} {
		switch {
		case !f.set:
		case isReal(o, "docker"):
			o.Child("docker").FailBare("value_error", fmt.Sprintf("`%s` and `docker` are mutually exclusive%s", f.name, where), "")
		default:
			o.Child("docker").Warn(fmt.Sprintf("`%s` and `docker` exclude each other", f.name), "")
		}
	}
}

// isReal says that a field is a boolean, and not another spelling of one.
func isReal(o *decode.Object, field string) bool {
	node := o.Node().Lookup(field)
	return node != nil && node.Kind == decode.Bool
}

func isTrue(b *bool) bool { return b != nil && *b }

// filled says whether a text is set and not empty.
func filled(s *string) bool { return s != nil && *s != "" }
