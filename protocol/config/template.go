package config

import (
	"encoding/json"

	"dstack/protocol/internal/decode"
)

// TypeTemplate is the "type" of a Template.
const TypeTemplate = "template"

// Template is a template of the web UI (spec: configuration.md 11).
type Template struct {
	Type        string                  `json:"type"`
	Name        string                  `json:"name"`
	Title       string                  `json:"title"`
	Description *string                 `json:"description"`
	Parameters  List[TemplateParameter] `json:"parameters"`
	// Configuration is a run configuration as an object. It is not checked:
	// parameters may fill it in.
	Configuration json.RawMessage `json:"configuration"`
}

// ParameterEnv is the type of TemplateParameter with fields of its own.
const ParameterEnv = "env"

// TemplateParameter is what a user of the template is asked for. Title, Name
// and Value are of the type env.
type TemplateParameter struct {
	Type  string
	Title *string
	Name  *string
	Value *string
}

// MarshalJSON writes the fields of the type.
func (p TemplateParameter) MarshalJSON() ([]byte, error) {
	if p.Type != ParameterEnv {
		return json.Marshal(wireType{p.Type})
	}
	return json.Marshal(struct {
		wireType
		Title *string `json:"title"`
		Name  *string `json:"name"`
		Value *string `json:"value"`
	}{wireType{p.Type}, p.Title, p.Name, p.Value})
}

// DecodeTemplate parses a file of .dstack/templates. path is used in errors,
// which are [Errors].
func DecodeTemplate(path string, data []byte) (Template, error) {
	root, err := decode.YAML(path, data)
	if err != nil {
		return Template{}, err
	}
	return decode.Read(path, root, readTemplate)
}

func readTemplate(v decode.Value) Template {
	o := v.Object()
	defer o.Done()
	return Template{
		Type:          decode.Required(o, "type", decode.Literal(TypeTemplate)),
		Name:          decode.Required(o, "name", decode.Text),
		Title:         decode.Required(o, "title", decode.Text),
		Description:   optionalText(o, "description"),
		Parameters:    decode.Field(o, "parameters", decode.ListOf(readParameter)),
		Configuration: decode.Required(o, "configuration", readFreeObject),
	}
}

func readParameter(v decode.Value) TemplateParameter {
	typ, o := decode.Variant(v, "type", "name", "ide", "resources", "python_or_docker", "repo", "working_dir", ParameterEnv)
	p := TemplateParameter{Type: typ}
	if typ == "" {
		return p
	}
	defer o.Done()
	if typ == ParameterEnv {
		p.Title, p.Name, p.Value = optionalText(o, "title"), optionalText(o, "name"), optionalText(o, "value")
	}
	return p
}

// readFreeObject keeps a mapping as it is.
func readFreeObject(v decode.Value) json.RawMessage {
	if v.Kind() != decode.Map {
		v.Fail("dict_type", "must be a mapping", "")
		return nil
	}
	raw, err := v.Node().JSON()
	if err != nil {
		v.FailBare("value_error", err.Error(), "")
	}
	return raw
}
