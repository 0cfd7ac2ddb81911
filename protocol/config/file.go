package config

import (
	"fmt"
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
}

// DecodeApply parses a configuration file, told by its type. path is used in
// errors, which are [Errors].
func DecodeApply(path string, data []byte) (Apply, error) {
	root, err := decode.YAML(path, data)
	if err != nil {
		return Apply{}, err
	}
	return decode.Read(path, root, readApply)
}

func readApply(v decode.Value) Apply {
	switch typ := readType(v, applyTypes); typ {
	case "":
	case TypeFleet:
		fleet := ReadFleet(v)
		return Apply{Fleet: &fleet}
	default:
		run := readRunOf(typ, v)
		return Apply{Run: &run}
	}
	return Apply{}
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

// readType gives the type of a configuration if it is one of types and known
// to this build; otherwise it reports that and gives "".
func readType(v decode.Value, types []string) string {
	if v.Kind() != decode.Map {
		v.Fail("model_type", "must be a mapping with a `type`", "")
		return ""
	}
	node := v.Node().Lookup("type")
	if node == nil {
		v.FailBare("union_tag_not_found", "type is required: one of "+join(types), "")
		return ""
	}
	at := v.At(node, "type")
	typ, ok := decode.Try(at, decode.Enum(types...))
	if !ok {
		return ""
	}
	if typ != TypeTask && typ != TypeFleet {
		at.FailBare("not_supported", fmt.Sprintf("`%s` is not supported by this build yet, only task and fleet are", typ), "")
		return ""
	}
	return typ
}

// ReadRun reads a run configuration of any supported type.
func ReadRun(v decode.Value) Run {
	typ := readType(v, runTypes)
	if typ == "" {
		return Run{}
	}
	return readRunOf(typ, v.At(v.Node(), decode.Tag(typ)))
}

// readRunOf reads a run configuration whose type is known and supported.
func readRunOf(_ string, v decode.Value) Run {
	task := readTask(v)
	return Run{Task: &task}
}
