package config

import (
	"regexp"

	"dstack/protocol/internal/decode"
)

// Apply is what `dstack apply` takes: exactly one pointer is set.
type Apply struct {
	Run     *Run
	Fleet   *Fleet
	Gateway *Gateway
	Volume  *Volume
	Preset  *Preset
	// Warnings are about what was accepted but probably not meant; nothing
	// else of the configuration depends on them.
	Warnings Errors
}

// DecodeApply parses a configuration file, told by its type. path is used in
// errors, which are [Errors].
func DecodeApply(path string, data []byte) (Apply, error) {
	root, err := decode.YAML(path, data)
	if err != nil {
		return Apply{}, err
	}
	apply, warnings, err := decode.ReadWarned(path, root, readApply)
	apply.Warnings = warnings
	return apply, err
}

func readApply(v decode.Value) Apply {
	typ, o := decode.Variant(v, "type", applyTypes...)
	switch typ {
	case "":
		return Apply{}
	case TypeFleet:
		return Apply{Fleet: new(ReadFleet(o.Value))}
	case TypeGateway:
		return Apply{Gateway: new(ReadGateway(o.Value))}
	case TypeVolume:
		return Apply{Volume: new(ReadVolume(o.Value))}
	case TypePreset:
		return Apply{Preset: new(readPreset(o.Value))}
	}
	return Apply{Run: new(readRunOf(typ, o.Value))}
}

// resourceName is what runs and fleets may be called.
var resourceName = regexp.MustCompile(`^[a-z][a-z0-9-]{1,40}$`)

// CheckName checks the name in a configuration file that DecodeApply took.
// 0.22.5 takes every text here and lets the server refuse it, which can't say
// where it stands.
func CheckName(path string, data []byte) error {
	root, err := decode.YAML(path, data)
	if err != nil {
		return err
	}
	_, err = decode.Read(path, root, func(v decode.Value) struct{} {
		if node := v.Node().Lookup("name"); node != nil && node.Text != "" && !resourceName.MatchString(node.Text) {
			v.At(node, "name").Fail("string_pattern_mismatch", "is not a valid name",
				"2 to 41 lowercase letters, digits and hyphens, a letter first")
		}
		return struct{}{}
	})
	return err
}

// applyTypes and runTypes are the values of "type" in 0.22.5, in its order.
var (
	applyTypes = []string{TypeDevEnvironment, TypeTask, TypeService, TypeFleet, TypeGateway, TypeVolume, TypePreset}
	runTypes   = []string{TypeDevEnvironment, TypeTask, TypeService}
)

// ReadRun reads a run configuration of any type.
func ReadRun(v decode.Value) Run {
	typ, o := decode.Variant(v, "type", runTypes...)
	if typ == "" {
		return Run{}
	}
	return readRunOf(typ, o.Value)
}

// readRunOf reads a run configuration whose type is known.
func readRunOf(typ string, v decode.Value) Run {
	switch typ {
	case TypeDevEnvironment:
		return Run{DevEnvironment: new(readDevEnvironment(v))}
	case TypeService:
		return Run{Service: new(readService(v))}
	}
	return Run{Task: new(readTask(v))}
}
