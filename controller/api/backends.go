package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// Backends are the clouds that can be configured.
type Backends interface {
	// Types are their types in the order of the answer.
	Types() []string
	// Validate checks a configuration as far as this build can. What it
	// refuses says so with a refusedBackend.
	Validate(ctx context.Context, b config.Backend) error
	// YAML writes a configuration as it may stand in config.yml.
	YAML(b config.Backend) (string, error)
}

// Accounts know what projects have at clouds.
type Accounts interface {
	// Keeps says whether all of it is reached with another configuration of the
	// backend, too. If not it fails with a refusedBackend.
	Keeps(ctx context.Context, projectID string, b config.Backend) error
}

// refusedBackend is an error of [Backends.Validate] for the user.
type refusedBackend interface {
	error
	Refusal() (message string, credentials bool, field []string)
}

func (a *API) listBackendTypes(context.Context, call, noBody) ([]string, error) {
	return a.deps.Backends.Types(), nil
}

func (a *API) createBackend(ctx context.Context, c call, in config.Backend) (config.Backend, error) {
	return in, a.saveBackend(ctx, c, in, true)
}

func (a *API) updateBackend(ctx context.Context, c call, in config.Backend) (config.Backend, error) {
	return in, a.saveBackend(ctx, c, in, false)
}

func (a *API) createBackendYAML(ctx context.Context, c call, in api.BackendYAMLRequest) (nothing, error) {
	b, err := backendFromYAML(in)
	if err != nil {
		return nil, err
	}
	return nil, a.saveBackend(ctx, c, b, true)
}

func (a *API) updateBackendYAML(ctx context.Context, c call, in api.BackendYAMLRequest) (nothing, error) {
	b, err := backendFromYAML(in)
	if err != nil {
		return nil, err
	}
	return nil, a.saveBackend(ctx, c, b, false)
}

// backendFromYAML reads no files: they would be the server's.
func backendFromYAML(in api.BackendYAMLRequest) (config.Backend, error) {
	b, err := config.DecodeBackendYAML("", []byte(in.ConfigYAML), nil)
	if faults, ok := errors.AsType[config.Errors](err); ok && len(faults) > 0 && faults[0].Type == "yaml_invalid" {
		return b, refuse("Error parsing YAML: %v", faults[0])
	}
	if err != nil {
		return b, refuse("%v", err)
	}
	return b, nil
}

// saveBackend validates a backend and stores it as a new one or in the place
// of the one of its type.
func (a *API) saveBackend(ctx context.Context, c call, b config.Backend, fresh bool) error {
	if !slices.Contains(a.deps.Backends.Types(), b.Type) {
		return &Error{Status: http.StatusBadRequest, Code: api.CodeBackendNotAvailable, Msg: "Backend not available"}
	}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		_, err := a.storedBackend(tx, c, b.Type, fresh)
		return err
	})
	if err != nil {
		return err
	}
	if err := a.deps.Backends.Validate(ctx, b); err != nil {
		return backendError(err)
	}
	if !fresh && a.deps.Accounts != nil {
		if err := a.deps.Accounts.Keeps(ctx, c.Project.ID, b); err != nil {
			return backendError(err)
		}
	}
	spec, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("write backend: %w", err)
	}
	err = a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		row, err := a.storedBackend(tx, c, b.Type, fresh)
		if err != nil {
			return err
		}
		save, done := tx.UpdateBackend, " updated"
		if fresh {
			save, done = tx.InsertBackend, " created"
		}
		same := bytes.Equal(row.Spec, spec)
		row.Spec = spec
		if err := save(&row); err != nil || same {
			return err //nolint:wrapcheck // wrapped below
		}
		return a.record(tx, c, "Backend "+b.Type+done, projectTarget(&c.Project))
	})
	if err != nil {
		return fmt.Errorf("store backend: %w", err)
	}
	return nil
}

// storedBackend is the row to write: a new one, which may not be there yet, or
// the one that has to be there.
func (*API) storedBackend(tx *store.Tx, c call, typ string, fresh bool) (store.Backend, error) {
	types, err := tx.BackendTypes(c.Project.ID)
	if err != nil {
		return store.Backend{}, fmt.Errorf("list backends: %w", err)
	}
	there := slices.Contains(types, typ)
	switch {
	case fresh && there:
		return store.Backend{}, &Error{Status: http.StatusBadRequest, Code: api.CodeExists, Msg: "Resource exists"}
	case fresh:
		return store.Backend{ID: uuid.NewString(), ProjectID: c.Project.ID, Type: typ}, nil
	case !there:
		return store.Backend{}, notExists(msgNotFound)
	}
	row, err := tx.Backend(c.Project.ID, typ)
	if err != nil {
		return row, fmt.Errorf("read backend: %w", err)
	}
	return row, nil
}

// backendError tells the caller what of a configuration does not work.
func backendError(err error) error {
	bad, ok := errors.AsType[refusedBackend](err)
	if !ok {
		return fmt.Errorf("validate backend: %w", err)
	}
	message, credentials, field := bad.Refusal()
	e := refuse("%s", message)
	e.Fields = field
	if credentials {
		e.Code = api.CodeInvalidCredentials
	}
	return e
}

func (a *API) deleteBackends(ctx context.Context, c call, in api.DeleteBackendsRequest) (nothing, error) {
	err := a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		for _, typ := range in.BackendsNames {
			if typ == "dstack" {
				return refuse("Cannot delete dstack backend")
			}
			use, err := tx.BackendUse(c.Project.ID, string(typ))
			if err != nil {
				return fmt.Errorf("look for use of backend: %w", err)
			}
			if use != "" {
				return refuse("Backend %s has active %s. Delete %s before deleting the backend.", typ, use, use)
			}
		}
		return a.dropBackends(tx, c, in.BackendsNames)
	})
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was doing
	}
	return nil, nil
}

// dropBackends deletes those of the backends that are there.
func (a *API) dropBackends(tx *store.Tx, c call, types []api.BackendType) error {
	there, err := tx.BackendTypes(c.Project.ID)
	if err != nil {
		return fmt.Errorf("list backends: %w", err)
	}
	for _, typ := range there {
		if !slices.Contains(types, api.BackendType(typ)) {
			continue
		}
		if err := tx.DeleteBackend(c.Project.ID, typ); err != nil {
			return fmt.Errorf("delete backend: %w", err)
		}
		if err := a.record(tx, c, "Backend "+typ+" deleted", projectTarget(&c.Project)); err != nil {
			return err
		}
	}
	return nil
}

// backendConfig answers with the configuration that the path names.
func backendConfig(a *API, g *gin.Context, c call) error {
	b, err := a.namedBackend(g, c)
	if err != nil || g.IsAborted() {
		return err
	}
	return a.answer(g, http.StatusOK, b)
}

// backendYAML is backendConfig as text.
func backendYAML(a *API, g *gin.Context, c call) error {
	b, err := a.namedBackend(g, c)
	if err != nil || g.IsAborted() {
		return err
	}
	text, err := a.deps.Backends.YAML(b)
	if err != nil {
		return err //nolint:wrapcheck // says what it was doing
	}
	return a.answer(g, http.StatusOK, api.BackendInfoYAML{Name: b.Type, ConfigYAML: text})
}

func (a *API) namedBackend(g *gin.Context, c call) (config.Backend, error) {
	name := g.Param("backend_name")
	if _, err := input[noBody](g); err != nil {
		return config.Backend{}, err
	}
	if err := api.CheckBackendType(name); err != nil {
		bad, _ := errors.AsType[config.Errors](err)
		details := bad.Details()
		for i := range details {
			details[i].Loc = []any{"path", "backend_name"}
		}
		a.refuse(g, http.StatusUnprocessableEntity, errorBody{Detail: details})
		return config.Backend{}, nil
	}
	var row store.Backend
	err := a.deps.Store.Read(g.Request.Context(), func(tx *store.Tx) (err error) {
		row, err = a.storedBackend(tx, c, name, false)
		return err
	})
	if err != nil {
		return config.Backend{}, err
	}
	return readBackend(row)
}

func readBackend(row store.Backend) (config.Backend, error) {
	b, err := config.DecodeBackend(bytes.TrimSpace(row.Spec))
	if err != nil {
		return b, fmt.Errorf("read stored backend %s: %w", row.Type, err)
	}
	return b, nil
}

// backendInfos are the backends of a project without credentials. One that
// cannot be read is left out.
func backendInfos(tx *store.Tx, projectID string) ([]api.BackendInfo, error) {
	rows, err := tx.Backends(projectID)
	if err != nil {
		return nil, fmt.Errorf("list backends: %w", err)
	}
	out := []api.BackendInfo{}
	for _, row := range rows {
		b, err := readBackend(row)
		if err != nil {
			continue
		}
		public, err := b.Public()
		if err != nil {
			return nil, fmt.Errorf("write backend: %w", err)
		}
		out = append(out, api.BackendInfo{Name: row.Type, Config: public})
	}
	return out, nil
}
