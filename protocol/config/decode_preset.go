package config

import (
	"fmt"
	"math"
	"strings"

	"dstack/protocol/internal/decode"
)

// Limits and defaults of presets.
const (
	maxPrompt          = 10_000
	minOutputTokens    = 2
	defaultInputTokens = 1024
)

// readPreset reads `type: preset` (spec: configuration.md 9.1).
func readPreset(v decode.Value) Preset {
	o := v.Object()
	o.Has("type")
	count := decode.Optional(decode.PositiveInt(math.MaxInt))
	p, ok := decode.Try(v, func(decode.Value) Preset {
		return Preset{
			Type:               TypePreset,
			ProfileParams:      readProfileParams(o),
			Name:               decode.Field(o, "name", decode.Optional(decode.Text)),
			Model:              readPresetModel(o),
			Prompt:             decode.Field(o, "prompt", decode.Optional(readPrompt)),
			MinContextLength:   decode.Field(o, "min_context_length", count),
			MaxTTFT:            decode.Field(o, "max_ttft", count),
			Trials:             decode.Field(o, "trials", count),
			Previous:           decode.Field(o, "previous", decode.OptionalList(decode.Text)),
			Concurrency:        decode.Field(o, "concurrency", count),
			InputTokens:        decode.Field(o, "input_tokens", count),
			OutputTokens:       decode.Field(o, "output_tokens", decode.Optional(decode.IntMin(minOutputTokens))),
			SharedPrefixTokens: decode.Field(o, "shared_prefix_tokens", decode.Optional(decode.IntMin(0))),
			Dataset:            decode.Field(o, "dataset", decode.Optional(readDataset)),
			Baseline:           decode.Field(o, "baseline", decode.Optional(decode.Boolean)),
			Gateway:            decode.Field(o, "gateway", decode.Optional(readPresetGateway)),
			Agent:              decode.Field(o, "agent", decode.Optional(readAgent)),
			Env:                decode.FieldOr(o, "env", Env{}, readEnv),
		}
	})
	o.Done()
	if ok {
		checkPreset(o, p)
	}
	return p
}

// readPresetModel reads model, or its shorthands base and repo.
func readPresetModel(o *decode.Object) PresetModel {
	base := decode.Field(o, "base", decode.Optional(readNotBlank))
	repo := decode.Field(o, "repo", decode.Optional(readNotBlank))
	hasModel := o.Has("model") && o.Child("model").Kind() != decode.Null
	switch {
	case base != nil && repo != nil:
		o.FailField("repo", "value_error", "`base` and `repo` are mutually exclusive", "")
	case hasModel && base != nil:
		o.FailField("base", "value_error", "`model` and `base` are mutually exclusive", "")
	case hasModel && repo != nil:
		o.FailField("repo", "value_error", "`model` and `repo` are mutually exclusive", "")
	case base != nil:
		return PresetModel{Base: *base}
	case repo != nil:
		return PresetModel{Repo: *repo}
	}
	return decode.Required(o, "model", readPresetModelObject)
}

func readPresetModelObject(v decode.Value) PresetModel {
	switch v.Kind() {
	case decode.Map:
	case decode.String:
		return PresetModel{Repo: readNotBlank(v)}
	default:
		v.Fail("model_attributes_type", "must be a model", "REPO, {repo, name} or {base}")
		return PresetModel{}
	}
	o := v.Object()
	defer o.Done()
	if v.Node().Lookup("base") != nil {
		return PresetModel{Base: decode.Required(o, "base", readNotBlank)}
	}
	return PresetModel{
		Repo: decode.Required(o, "repo", readNotBlank),
		Name: decode.Field(o, "name", decode.Optional(readNotBlank)),
	}
}

// readNotBlank reads a text with more than blanks.
func readNotBlank(v decode.Value) string {
	s, ok := decode.Try(v, decode.Text)
	if ok && strings.TrimSpace(s) == "" {
		v.FailBare("value_error", "must not be blank", "")
	}
	return s
}

func readPrompt(v decode.Value) PresetPrompt {
	if v.Kind() == decode.Map {
		o := v.Object()
		defer o.Done()
		return PresetPrompt{Path: decode.Required(o, "path", readNotBlank)}
	}
	return PresetPrompt{Text: decode.Both(decode.TextOf(1, maxPrompt), readNotBlank)(v)}
}

func readDataset(v decode.Value) string {
	s, ok := decode.Try(v, readNotBlank)
	s = strings.TrimSpace(s)
	if ok && s == "random" {
		v.FailBare("value_error", "dataset random is not allowed", "leave it out for random prompts")
	}
	return s
}

// readPresetGateway keeps a text as it is.
func readPresetGateway(v decode.Value) PresetGateway {
	if on, ok := asBoolean(v); ok {
		return PresetGateway{ServiceGateway: ServiceGateway{Enabled: on}}
	}
	if v.Kind() == decode.Map {
		return PresetGateway{ServiceGateway: readServiceGateway(v)}
	}
	return PresetGateway{Text: decode.Text(v)}
}

func readAgent(v decode.Value) PresetAgent {
	o := v.Object()
	defer o.Done()
	a, ok := decode.Try(v, func(decode.Value) PresetAgent {
		return PresetAgent{
			Provider: decode.Required(o, "provider", decode.Literal(AgentClaude, AgentCodex)),
			Model:    decode.Field(o, "model", decode.Optional(decode.Text)),
			Effort:   decode.Field(o, "effort", decode.Optional(decode.Literal("low", "medium", "high", "xhigh", "max"))),
		}
	})
	if ok && a.Provider == AgentCodex && a.Effort != nil && *a.Effort == "max" {
		o.FailBare("value_error", "codex has no effort max", "")
	}
	return a
}

// checkPreset applies the rules between fields of a preset.
func checkPreset(o *decode.Object, p Preset) {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"input_tokens", p.InputTokens != nil},
		{"output_tokens", p.OutputTokens != nil},
		{"shared_prefix_tokens", p.SharedPrefixTokens != nil},
	} {
		if p.Dataset != nil && f.set {
			o.FailField(f.name, "value_error", fmt.Sprintf("`dataset` and `%s` are mutually exclusive", f.name), "")
		}
	}
	limit := defaultInputTokens
	if p.InputTokens != nil {
		limit = *p.InputTokens
	}
	if p.SharedPrefixTokens != nil && *p.SharedPrefixTokens >= limit {
		o.FailField("shared_prefix_tokens", "value_error", fmt.Sprintf("`shared_prefix_tokens` must be less than `input_tokens` (%d)", limit), "")
	}
}
