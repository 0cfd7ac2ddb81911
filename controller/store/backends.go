package store

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Backend is a cloud that a project may use. Spec is its whole configuration
// with its credentials as JSON, encrypted at rest.
type Backend struct {
	ID        string
	ProjectID string
	Type      string
	Spec      json.RawMessage
}

var backends = newTable("backends", func(r *Backend, c *codec) []column {
	return []column{
		col("id", &r.ID),
		fixed("project_id", &r.ProjectID),
		fixed("type", &r.Type),
		col("spec", sealed(&r.Spec, c)),
	}
})

// InsertBackend adds a backend; [ErrExists] if the project has one of the type.
func (tx *Tx) InsertBackend(b *Backend) error { return backends.add(tx, b) }

// UpdateBackend writes the configuration of a backend.
func (tx *Tx) UpdateBackend(b *Backend) error { return backends.change(tx, b, ErrNotFound) }

// Backend finds a project's backend of a type.
func (tx *Tx) Backend(projectID, typ string) (Backend, error) {
	return backends.one(tx, " WHERE project_id = $1 AND type = $2", projectID, typ)
}

// Backends lists the backends of a project by type. One that no key of this
// server decrypts is left out.
func (tx *Tx) Backends(projectID string) ([]Backend, error) {
	types, err := tx.BackendTypes(projectID)
	if err != nil {
		return nil, err
	}
	out := []Backend{}
	for _, typ := range types {
		b, err := tx.Backend(projectID, typ)
		if errors.Is(err, ErrWrongKey) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// BackendTypes lists the types of the backends of a project.
func (tx *Tx) BackendTypes(projectID string) ([]string, error) {
	return tx.texts("SELECT type FROM backends WHERE project_id = $1 ORDER BY type", projectID)
}

// DeleteBackend forgets a project's backend of a type, if there is one.
func (tx *Tx) DeleteBackend(projectID, typ string) error {
	if _, err := tx.exec("DELETE FROM backends WHERE project_id = $1 AND type = $2", projectID, typ); err != nil {
		return fmt.Errorf("delete backend: %w", err)
	}
	return nil
}

// BackendUse says what a project has on a backend and that only the backend
// can remove: "instances", "volumes" or nothing.
func (tx *Tx) BackendUse(projectID, typ string) (string, error) {
	n, err := instances.count(tx, " WHERE project_id = $1 AND backend = $2 AND NOT deleted AND status <> 'terminated'", projectID, typ)
	if err != nil || n > 0 {
		return "instances", err
	}
	list, err := volumes.find(tx, " WHERE project_id = $1 AND NOT deleted AND (provisioning IS NOT NULL OR token <> '')", projectID)
	if err != nil {
		return "", err
	}
	for _, v := range list {
		if v.Configuration.Backend == typ {
			return "volumes", nil
		}
	}
	return "", nil
}
