package store

import (
	"database/sql"
	"fmt"
	"time"

	"dstack/protocol/api"
)

// Stray is a machine of a cloud that carries this server's tag and that no
// instance has, or something else of which the database knows nothing.
type Stray struct {
	ID string
	// ProjectID is one of those whose account it is in.
	ProjectID string
	Backend   string
	MachineID string
	Found     StrayMachine
	// Hold is why it is not ended; empty if it is.
	Hold    string
	FoundAt time.Time
	// ConfirmedAt is when an administrator said that it shall end.
	ConfirmedAt *time.Time
	// Trouble is why the cloud has not ended it yet.
	Trouble string
}

// StrayMachine is what the cloud says of a stray.
type StrayMachine struct {
	// Kind is empty for a machine, else "volume" or "address".
	Kind      string    `json:"kind,omitempty"`
	Region    string    `json:"region"`
	Zone      string    `json:"zone,omitempty"`
	Token     string    `json:"token,omitempty"`
	Data      string    `json:"data,omitempty"`
	Server    string    `json:"server"`
	Name      string    `json:"name"`
	Type      string    `json:"type"`
	Spot      bool      `json:"spot,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	// Price is in USD an hour; 0 if it is not known.
	Price float64 `json:"price,omitempty"`
}

var strays = newTable("strays", func(r *Stray, c *codec) []column {
	return []column{
		col("id", &r.ID),
		col("project_id", &r.ProjectID),
		fixed("backend", &r.Backend),
		fixed("machine_id", &r.MachineID),
		col("found", plain(&r.Found, c)),
		col("hold", &r.Hold),
		fixed("found_at", instant{&r.FoundAt}),
		col("confirmed_at", maybeInstant{&r.ConfirmedAt}),
		col("trouble", &r.Trouble),
	}
})

// InsertStray adds a stray; [ErrExists] if the machine is one already.
func (tx *Tx) InsertStray(s *Stray) error { return strays.add(tx, s) }

// UpdateStray writes what changes of a stray.
func (tx *Tx) UpdateStray(s *Stray) error { return strays.change(tx, s, ErrNotFound) }

// Strays lists all strays, the first found first.
func (tx *Tx) Strays() ([]Stray, error) {
	return strays.find(tx, " ORDER BY found_at, backend, machine_id")
}

// DeleteStray forgets a stray.
func (tx *Tx) DeleteStray(id string) error {
	if _, err := tx.exec("DELETE FROM strays WHERE id = $1", id); err != nil {
		return fmt.Errorf("delete stray: %w", err)
	}
	return nil
}

// LastInstanceChange is when an instance was changed last; zero if there never
// was one. Nothing is rented without such a change.
func (tx *Tx) LastInstanceChange() (time.Time, error) {
	var micros sql.NullInt64
	scan := func(rows *sql.Rows) error { return rows.Scan(&micros) }
	if err := tx.query(scan, "SELECT MAX(last_processed_at) FROM instances"); err != nil {
		return time.Time{}, fmt.Errorf("find the last change of an instance: %w", err)
	}
	if !micros.Valid {
		return time.Time{}, nil
	}
	return time.UnixMicro(micros.Int64).UTC(), nil
}

// Slot is where a project has a backend.
type Slot struct{ ProjectID, Project, Backend string }

// Slots lists the backends of all projects, by project and type.
func (tx *Tx) Slots() ([]Slot, error) {
	out := []Slot{}
	err := tx.query(func(rows *sql.Rows) error {
		var s Slot
		if err := rows.Scan(&s.ProjectID, &s.Project, &s.Backend); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		out = append(out, s)
		return nil
	}, "SELECT p.id, p.name, b.type FROM backends b JOIN projects p ON p.id = b.project_id ORDER BY p.created_at, p.id, b.type")
	if err != nil {
		return nil, fmt.Errorf("list backends of all projects: %w", err)
	}
	return out, nil
}

// GivenUpTokens lists the tokens of attempts that no instance needs any more.
func (tx *Tx) GivenUpTokens() ([]string, error) {
	rows, err := instances.find(tx, " WHERE tried IS NOT NULL OR machine IS NOT NULL AND status = 'terminated' ORDER BY id")
	if err != nil {
		return nil, err
	}
	out := []string{}
	for _, i := range rows {
		for _, t := range i.Tried {
			if t.Token != "" {
				out = append(out, t.Token)
			}
		}
		if i.Machine != nil && i.Status == api.InstanceTerminated {
			out = append(out, i.Machine.Token)
		}
	}
	return out, nil
}
