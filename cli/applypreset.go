package cli

import (
	"strings"

	"dstack/protocol/config"
)

// applyPreset checks a preset. The search itself is left out: it lets an
// external coding agent work with the rights of the user.
func (a *App) applyPreset(o applyOptions, conf config.Preset) error {
	if o.detach {
		return sentence("-d/--detach is not supported for preset configurations")
	}
	if o.run.trials > 0 {
		conf.Trials = &o.run.trials
	}
	var lacking []string
	for _, field := range []struct {
		name  string
		value *int
	}{
		{"trials", conf.Trials}, {"max_ttft", conf.MaxTTFT},
		{"min_context_length", conf.MinContextLength}, {"concurrency", conf.Concurrency},
	} {
		if field.value == nil {
			lacking = append(lacking, "`"+field.name+"`")
		}
	}
	if lacking != nil {
		return sentence("The preset needs %s", strings.Join(lacking, ", "))
	}
	return sentence("%s", noPresets)
}

const noPresets = "The configuration is valid, but this dstack creates no presets: that is the work of an external coding agent, which is left out. " +
	"Write a service configuration and apply it, or create the preset with dstack 0.22.5."
