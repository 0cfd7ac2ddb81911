package fake

import (
	"context"

	"dstack/controller/backends"
	"dstack/protocol/config"
)

// Driver gives every project an account of the same cloud.
type Driver struct{ Cloud *Cloud }

var _ backends.Driver = Driver{}

// Validate takes every configuration.
func (Driver) Validate(context.Context, config.Backend) error { return nil }

// Open is that of [backends.Driver].
func (d Driver) Open(context.Context, config.Backend) (backends.Backend, error) {
	return d.Cloud.Open(), nil
}
