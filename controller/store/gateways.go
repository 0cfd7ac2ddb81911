package store

import (
	"database/sql"
	"fmt"
	"time"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

// Gateway publishes services.
type Gateway struct {
	ID        string
	ProjectID string
	Name      string
	// Configuration.Default is always nil: see [Tx.DefaultGateway].
	Configuration   config.Gateway
	Status          api.GatewayStatus
	StatusMessage   *string
	Hostname        *string // of the load balancer
	CreatedAt       time.Time
	LastProcessedAt time.Time
	// Deleting is the user's wish; the row goes once nothing else is left.
	Deleting bool
	Version  int64
}

// GatewayReplica is one host of a gateway.
type GatewayReplica struct {
	ID            string
	GatewayID     string
	Num           int
	Backend       string
	Hostname      *string
	Region        *string
	CreatedAt     time.Time
	Status        api.GatewayReplicaStatus
	StatusMessage *string
}

var gateways = newTable("gateways", func(r *Gateway, c *codec) []column {
	return []column{
		col("id", &r.ID),
		fixed("project_id", &r.ProjectID),
		fixed("name", &r.Name),
		col("configuration", plain(&r.Configuration, c)),
		col("status", &r.Status),
		col("status_message", &r.StatusMessage),
		col("hostname", &r.Hostname),
		fixed("created_at", instant{&r.CreatedAt}),
		col("last_processed_at", instant{&r.LastProcessedAt}),
		col("deleting", &r.Deleting),
		col("version", &r.Version),
	}
})

var gatewayReplicas = newTable("gateway_replicas", func(r *GatewayReplica, _ *codec) []column {
	return []column{
		col("id", &r.ID),
		fixed("gateway_id", &r.GatewayID),
		fixed("num", &r.Num),
		fixed("backend", &r.Backend),
		col("hostname", &r.Hostname),
		col("region", &r.Region),
		fixed("created_at", instant{&r.CreatedAt}),
		col("status", &r.Status),
		col("status_message", &r.StatusMessage),
	}
})

// InsertGateway adds a gateway; [ErrExists] if a gateway of this project has
// the name.
func (tx *Tx) InsertGateway(g *Gateway) error { return gateways.add(tx, g) }

// UpdateGateway writes a gateway if nobody else did since g was read, and
// adds one to g.Version; else [ErrConflict].
func (tx *Tx) UpdateGateway(g *Gateway) error { return gateways.save(tx, g, &g.Version) }

// DeleteGateway removes a gateway with its replicas; it is nobody's default
// any more.
func (tx *Tx) DeleteGateway(id string) error {
	if _, err := tx.exec("DELETE FROM gateways WHERE id = $1", id); err != nil {
		return fmt.Errorf("delete gateway: %w", err)
	}
	return nil
}

// Gateway finds a gateway by id.
func (tx *Tx) Gateway(id string) (Gateway, error) { return gateways.one(tx, " WHERE id = $1", id) }

// GatewayByName finds a gateway of a project.
func (tx *Tx) GatewayByName(projectID, name string) (Gateway, error) {
	return gateways.one(tx, " WHERE project_id = $1 AND name = $2", projectID, name)
}

// Gateways lists the gateways of a project by name.
func (tx *Tx) Gateways(projectID string) ([]Gateway, error) {
	return gateways.find(tx, " WHERE project_id = $1 ORDER BY name", projectID)
}

// ImportedGateways lists the gateways that a project imports, by name.
func (tx *Tx) ImportedGateways(projectID string) ([]Gateway, error) {
	return gateways.find(tx, ` WHERE project_id <> $1 AND id IN (
		SELECT e.gateway_id FROM exported_gateways e JOIN imports i ON i.export_id = e.export_id WHERE i.project_id = $1)
		ORDER BY name, id`, projectID)
}

// GatewayNames lists the names of a project's gateways that begin with prefix.
func (tx *Tx) GatewayNames(projectID, prefix string) ([]string, error) {
	return tx.texts("SELECT name FROM gateways WHERE project_id = $1 AND substr(name, 1, length($2)) = $2 ORDER BY name", projectID, prefix)
}

// InsertGatewayReplica adds a replica.
func (tx *Tx) InsertGatewayReplica(r *GatewayReplica) error { return gatewayReplicas.add(tx, r) }

// GatewayReplicas lists the replicas of gateways, by gateway and number.
func (tx *Tx) GatewayReplicas(gatewayIDs []string) ([]GatewayReplica, error) {
	var w where
	w.in("gateway_id", nonNil(gatewayIDs))
	return gatewayReplicas.find(tx, w.String()+" ORDER BY gateway_id, num, created_at, id", w.args...)
}

// DefaultGateway is the id of a project's default gateway, which may be one
// of another project; empty if there is none.
func (tx *Tx) DefaultGateway(projectID string) (string, error) {
	id := ""
	err := tx.query(func(rows *sql.Rows) error { return rows.Scan(&id) },
		"SELECT gateway_id FROM default_gateways WHERE project_id = $1", projectID)
	if err != nil {
		return "", fmt.Errorf("select default gateway: %w", err)
	}
	return id, nil
}

// SetDefaultGateway makes a gateway the default of a project; an empty id
// leaves it without one.
func (tx *Tx) SetDefaultGateway(projectID, gatewayID string) error {
	_, err := tx.exec("DELETE FROM default_gateways WHERE project_id = $1", projectID)
	if err == nil && gatewayID != "" {
		_, err = tx.exec("INSERT INTO default_gateways (project_id, gateway_id) VALUES ($1, $2)", projectID, gatewayID)
	}
	if err != nil {
		return fmt.Errorf("set default gateway: %w", err)
	}
	return nil
}

// texts lists the values of a query's one column.
func (tx *Tx) texts(query string, args ...any) ([]string, error) {
	out := []string{}
	err := tx.query(func(rows *sql.Rows) error {
		var s string
		if err := rows.Scan(&s); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		out = append(out, s)
		return nil
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("select names: %w", err)
	}
	return out, nil
}
