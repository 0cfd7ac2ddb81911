package store

import (
	"fmt"
	"time"
)

// Secret is a value of a project that jobs may refer to by name. Value is
// encrypted at rest.
type Secret struct {
	ID        string
	ProjectID string
	Name      string
	Value     string
	CreatedAt time.Time
	UpdatedAt time.Time
}

var secrets = newTable("secrets", func(r *Secret, c *codec) []column {
	return []column{
		col("id", &r.ID),
		fixed("project_id", &r.ProjectID),
		fixed("name", &r.Name),
		col("value", sealedText{&r.Value, c}),
		fixed("created_at", instant{&r.CreatedAt}),
		col("updated_at", instant{&r.UpdatedAt}),
	}
})

// InsertSecret adds a secret.
func (tx *Tx) InsertSecret(s *Secret) error { return secrets.add(tx, s) }

// UpdateSecret writes the value of a secret.
func (tx *Tx) UpdateSecret(s *Secret) error { return secrets.change(tx, s, ErrNotFound) }

// Secrets lists the secrets of a project, newest first.
func (tx *Tx) Secrets(projectID string) ([]Secret, error) {
	return secrets.find(tx, " WHERE project_id = $1 ORDER BY created_at DESC, id", projectID)
}

// SecretByName finds a secret of a project; the case of the name matters.
func (tx *Tx) SecretByName(projectID, name string) (Secret, error) {
	return secrets.one(tx, " WHERE project_id = $1 AND name = $2", projectID, name)
}

// SecretsByName finds those secrets of a project that exist, by name.
func (tx *Tx) SecretsByName(projectID string, names []string) ([]Secret, error) {
	var w where
	w.add("project_id = ?", projectID)
	w.in("name", nonNil(names))
	return secrets.find(tx, w.String()+" ORDER BY name", w.args...)
}

// DeleteSecret deletes a secret.
func (tx *Tx) DeleteSecret(id string) error {
	if _, err := tx.exec("DELETE FROM secrets WHERE id = $1", id); err != nil {
		return fmt.Errorf("delete secret: %w", err)
	}
	return nil
}

// DropSecrets deletes all secrets of a project.
func (tx *Tx) DropSecrets(projectID string) error {
	if _, err := tx.exec("DELETE FROM secrets WHERE project_id = $1", projectID); err != nil {
		return fmt.Errorf("delete secrets: %w", err)
	}
	return nil
}
