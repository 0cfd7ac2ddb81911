package store

import (
	"database/sql"
	"fmt"
)

const settingServerID = "server_id"

// ServerID is the name of this database among all servers: id the first time,
// and ever after what it was then.
func (tx *Tx) ServerID(id string) (string, error) {
	if _, err := tx.exec("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", settingServerID, id); err != nil {
		return "", fmt.Errorf("keep server id: %w", err)
	}
	scan := func(rows *sql.Rows) error { return rows.Scan(&id) }
	if err := tx.query(scan, "SELECT value FROM settings WHERE name = $1", settingServerID); err != nil {
		return "", fmt.Errorf("read server id: %w", err)
	}
	return id, nil
}
