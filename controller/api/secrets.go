package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// Secrets (spec: rest-api.md 7.6). A name keeps its case; only those who may
// manage secrets see that one exists.

func (a *API) maySecrets(c call) error {
	if !a.deps.Policy.CanManageSecrets(&c.User, c.Role) {
		return notAllowed(msgAccessDenied)
	}
	return nil
}

func (a *API) listSecrets(ctx context.Context, c call, _ noBody) ([]api.Secret, error) {
	if err := a.maySecrets(c); err != nil {
		return nil, err
	}
	out := []api.Secret{}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		rows, err := tx.Secrets(c.Project.ID)
		if err != nil {
			return fmt.Errorf("list secrets: %w", err)
		}
		for _, s := range rows {
			out = append(out, api.Secret{ID: s.ID, Name: s.Name})
		}
		return nil
	})
	return out, err
}

func (a *API) getSecret(ctx context.Context, c call, in api.GetSecretRequest) (api.Secret, error) {
	if err := a.maySecrets(c); err != nil {
		return api.Secret{}, err
	}
	var out api.Secret
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		s, err := tx.SecretByName(c.Project.ID, in.Name)
		if isNotFound(err) {
			return notExists("Resource not found")
		}
		out = secretView(s)
		return err //nolint:wrapcheck // says what it was doing
	})
	return out, err
}

func (a *API) setSecret(ctx context.Context, c call, in api.CreateOrUpdateSecretRequest) (api.Secret, error) {
	if err := a.maySecrets(c); err != nil {
		return api.Secret{}, err
	}
	switch {
	case !api.ValidSecretName(in.Name):
		return api.Secret{}, refuse("Secret name should match regex '^[A-Za-z0-9-_]{1,200}$") // sic
	case utf8.RuneCountInString(in.Value) > api.MaxSecretValue:
		return api.Secret{}, refuse("Secret value length must not exceed %d", api.MaxSecretValue)
	}
	for {
		s, err := a.setSecretOnce(ctx, c, in)
		if !errors.Is(err, store.ErrExists) || ctx.Err() != nil {
			return secretView(s), err
		}
	}
}

// setSecretOnce fails with [store.ErrExists] if somebody else created the
// secret meanwhile.
func (a *API) setSecretOnce(ctx context.Context, c call, in api.CreateOrUpdateSecretRequest) (store.Secret, error) {
	var s store.Secret
	err := a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		var err error
		s, err = tx.SecretByName(c.Project.ID, in.Name)
		now, what := a.deps.Now(), "Secret updated"
		switch {
		case isNotFound(err):
			what = "Secret created"
			s = store.Secret{ID: uuid.NewString(), ProjectID: c.Project.ID, Name: in.Name, Value: in.Value, CreatedAt: now, UpdatedAt: now}
			err = tx.InsertSecret(&s)
		case err == nil && s.Value == in.Value:
			return nil
		case err == nil:
			s.Value, s.UpdatedAt = in.Value, now
			err = tx.UpdateSecret(&s)
		}
		if err != nil {
			return fmt.Errorf("save secret: %w", err)
		}
		return a.record(tx, c, what, secretTarget(s))
	})
	if err != nil {
		return store.Secret{}, err // the writer may still be at it
	}
	return s, nil
}

func (a *API) deleteSecrets(ctx context.Context, c call, in api.DeleteSecretsRequest) (nothing, error) {
	if err := a.maySecrets(c); err != nil {
		return nil, err
	}
	names := distinct(in.SecretsNames)
	return nil, a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		rows, err := tx.SecretsByName(c.Project.ID, names)
		if err != nil {
			return fmt.Errorf("find secrets: %w", err)
		}
		if missing := missingSecrets(names, rows); len(missing) > 0 {
			return notExists("Secrets not found: %s", strings.Join(missing, ", "))
		}
		for _, s := range rows {
			if err := tx.DeleteSecret(s.ID); err != nil {
				return err //nolint:wrapcheck // says what it was doing
			}
			if err := a.record(tx, c, "Secret deleted", secretTarget(s)); err != nil {
				return err
			}
		}
		return nil
	})
}

// missingSecrets are the names without a row, sorted.
func missingSecrets(names []string, rows []store.Secret) []string {
	var out []string
	for _, name := range names {
		if !slices.ContainsFunc(rows, func(s store.Secret) bool { return s.Name == name }) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func secretView(s store.Secret) api.Secret {
	return api.Secret{ID: s.ID, Name: s.Name, Value: &s.Value}
}

func secretTarget(s store.Secret) store.EventTarget {
	return store.EventTarget{Type: "secret", ProjectID: &s.ProjectID, ID: s.ID, Name: s.Name}
}
