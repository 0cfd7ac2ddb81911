// Package backends knows the clouds that a server can be configured for, and
// which of them this build can use (shared spec: backends.md).
package backends

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"dstack/protocol/config"
)

// Driver is what this build can do on one type of backend.
type Driver interface {
	// Validate asks the cloud whether the configuration and its credentials
	// work. It fails with [*Invalid] if they do not.
	Validate(ctx context.Context, b config.Backend) error
	// Open makes the account of a configuration, without asking the cloud.
	Open(ctx context.Context, b config.Backend) (Backend, error)
}

// Clouds are the backends of a server.
type Clouds struct {
	// Drivers are those of this build, by type of backend. A backend without
	// one can be configured, and nothing can be made on it.
	Drivers map[string]Driver
	// NoDefaultCreds refuses the credentials that lie around on the server.
	NoDefaultCreds bool
}

// Types are the types that can be configured, in the order in which
// backends/list_types has them.
func (Clouds) Types() []string {
	return []string{
		"amddevcloud", "aws", "azure", "cloudrift", "crusoe", "datacrunch", "daytona", "digitalocean", "gcp", "hotaisle", "jarvislabs",
		"kubernetes", "lambda", "lium", "nebius", "oci", "runpod", "slurm", "seeweb", "vastai", "verda", "vultr",
	}
}

// Invalid says what of a configuration does not work.
type Invalid struct { //nolint:errname // "invalid" says it
	Message string
	// Credentials says that the cloud refuses them.
	Credentials bool
	// Field is the path of the field that is wrong, if one is.
	Field []string
}

func (e *Invalid) Error() string { return e.Message }

// Refusal is what a user is told.
func (e *Invalid) Refusal() (message string, credentials bool, field []string) {
	return e.Message, e.Credentials, e.Field
}

// Validate checks a configuration as far as this build can: what needs no
// cloud always, the rest with the driver. It fails with [*Invalid].
func (c Clouds) Validate(ctx context.Context, b config.Backend) error {
	if c.NoDefaultCreds && defaultCreds(b) {
		return &Invalid{Message: "Invalid credentials", Credentials: true, Field: []string{"creds"}}
	}
	if k, ok := b.Config.(*config.KubernetesBackend); ok {
		if err := checkKubernetes(k); err != nil {
			return err
		}
	}
	driver := c.Drivers[b.Type]
	if driver == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, validateLimit, fmt.Errorf("%s did not answer in %s", b.Type, validateLimit))
	defer cancel()
	err := driver.Validate(ctx, b)
	if known, ok := errors.AsType[*Error](err); ok {
		// Also what is no fault of the configuration: it is not taken unseen.
		return &Invalid{Message: known.Error()}
	}
	if err != nil {
		return fmt.Errorf("validate backend %s: %w", b.Type, err)
	}
	return nil
}

// validateLimit is how long a cloud may take to check a configuration.
const validateLimit = 30 * time.Second

func defaultCreds(b config.Backend) bool {
	switch c := b.Config.(type) {
	case *config.AWSBackend:
		return c.Creds != nil && c.Creds.Type == config.CredsDefault
	case *config.AzureBackend:
		return c.Creds != nil && c.Creds.Type == config.CredsDefault
	case *config.GCPBackend:
		return c.Creds != nil && c.Creds.Type == config.CredsDefault
	case *config.OCIBackend:
		return c.Creds != nil && c.Creds.Type == config.CredsDefault
	}
	return false
}

func checkKubernetes(k *config.KubernetesBackend) error {
	if k.Contexts != nil && k.Namespace != nil {
		return &Invalid{Message: "namespace must not be set if contexts is set"}
	}
	var seen, twice []string
	for _, c := range k.Contexts {
		if slices.Contains(seen, c.Name) && !slices.Contains(twice, c.Name) {
			twice = append(twice, c.Name)
		}
		seen = append(seen, c.Name)
	}
	if len(twice) > 0 {
		return &Invalid{Message: "duplicate contexts: " + strings.Join(twice, ", ")}
	}
	var parsed map[string]any
	if err := yaml.Unmarshal([]byte(k.Kubeconfig.Data), &parsed); err != nil {
		return &Invalid{Message: "The kubeconfig is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	return nil
}
