package api

import (
	"encoding/json"
	"fmt"

	"dstack/protocol/config"
	"dstack/protocol/internal/decode"
)

// BackendType is one of [config.BackendTypes].
type BackendType string

// DeleteBackendsRequest names the backends to delete.
type DeleteBackendsRequest struct {
	BackendsNames []BackendType `json:"backends_names"`
}

// BackendYAMLRequest is the body of backends/create_yaml and update_yaml.
type BackendYAMLRequest struct {
	ConfigYAML string `json:"config_yaml"`
}

// BackendInfoYAML is a backend with its credentials as text.
type BackendInfoYAML struct {
	Name       string `json:"name"`
	ConfigYAML string `json:"config_yaml"`
}

// CheckBackendType says whether a text is a [BackendType]; the error is
// [config.Errors].
func CheckBackendType(text string) error {
	quoted, err := json.Marshal(text)
	if err != nil {
		return fmt.Errorf("quote name: %w", err)
	}
	_, err = decodeJSON(quoted, readBackendType)
	return err
}

func readBackendType(v decode.Value) BackendType {
	return BackendType(decode.Enum(config.BackendTypes...)(v))
}
