package config

import (
	"fmt"

	"go.yaml.in/yaml/v3"

	"dstack/protocol/internal/decode"
)

// ClientProject is an entry of ~/.dstack/config.yml: a project on a server
// with the user's token. The fields are in the order in which they are
// written.
type ClientProject struct {
	Default bool   `yaml:"default"`
	Name    string `yaml:"name"`
	Token   string `yaml:"token"`
	URL     string `yaml:"url"`
}

// DecodeClient parses ~/.dstack/config.yml (spec: configuration.md 13); an
// empty file has no projects. path is used in errors, which are [Errors].
func DecodeClient(path string, data []byte) ([]ClientProject, error) {
	root, err := decode.YAML(path, data)
	if err != nil {
		return nil, err
	}
	if root.Kind == decode.Null {
		return nil, nil
	}
	return decode.Read(path, root, func(v decode.Value) []ClientProject {
		o := v.Object()
		defer o.Done()
		o.Has("repos") // of old releases, dropped when the file is written
		return decode.Field(o, "projects", decode.ListOf(readClientProject))
	})
}

func readClientProject(v decode.Value) ClientProject {
	o := v.Object()
	defer o.Done()
	p := ClientProject{
		Name:  decode.Required(o, "name", decode.Text),
		URL:   decode.Required(o, "url", decode.Text),
		Token: decode.Required(o, "token", func(v decode.Value) string { return decode.Text(v.Secret()) }),
	}
	if def := decode.Field(o, "default", decode.Optional(decode.Boolean)); def != nil {
		p.Default = *def
	}
	return p
}

// EncodeClient writes ~/.dstack/config.yml.
func EncodeClient(projects []ClientProject) ([]byte, error) {
	if projects == nil {
		projects = []ClientProject{}
	}
	data, err := yaml.Marshal(map[string][]ClientProject{"projects": projects})
	if err != nil {
		return nil, fmt.Errorf("write CLI configuration: %w", err)
	}
	return data, nil
}
