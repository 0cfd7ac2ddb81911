package client

import (
	"context"

	"dstack/protocol/api"
)

// ListSecrets gives the project's secrets without their values.
func (p *Project) ListSecrets(ctx context.Context) ([]api.Secret, error) {
	return call[[]api.Secret](ctx, p.Client, read(p.path("secrets/list")), nil)
}

// GetSecret gives a secret with its value; see [IsNotExist].
func (p *Project) GetSecret(ctx context.Context, name string) (api.Secret, error) {
	return call[api.Secret](ctx, p.Client, read(p.path("secrets/get")), api.GetSecretRequest{Name: name})
}

// SetSecret creates or replaces a secret.
func (p *Project) SetSecret(ctx context.Context, name, value string) error {
	_, err := call[api.Secret](ctx, p.Client, read(p.path("secrets/create_or_update")), api.CreateOrUpdateSecretRequest{Name: name, Value: value})
	return err
}

// DeleteSecrets deletes secrets, all or, if one does not exist, none.
func (p *Project) DeleteSecrets(ctx context.Context, names []string) error {
	return p.do(ctx, write(p.path("secrets/delete")), api.DeleteSecretsRequest{SecretsNames: names})
}
