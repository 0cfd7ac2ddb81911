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
	return tx.Setting(settingServerID)
}

// Setting is a value that was kept with [Tx.PutSetting]; empty if none was.
func (tx *Tx) Setting(name string) (value string, err error) {
	scan := func(rows *sql.Rows) error { return rows.Scan(&value) }
	if err := tx.query(scan, "SELECT value FROM settings WHERE name = $1", name); err != nil {
		return "", fmt.Errorf("read setting %s: %w", name, err)
	}
	return value, nil
}

// PutSetting keeps a value by its name.
func (tx *Tx) PutSetting(name, value string) error {
	_, err := tx.exec("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, value)
	if err != nil {
		return fmt.Errorf("keep setting %s: %w", name, err)
	}
	return nil
}
