package controller

import (
	"fmt"
	"strings"
	"time"

	"dstack/controller/objects"
	"dstack/controller/replication"
)

// The longest that a change may wait for its upload, and the shortest.
const (
	minReplicaInterval = 50 * time.Millisecond
	maxReplicaInterval = time.Hour
)

// ReplicaSettings say where the database is replicated to by Litestream.
type ReplicaSettings struct {
	// URL is empty without replication (LITESTREAM_REPLICA_URL).
	URL string
	// Wait waits for a server that replicates there, instead of refusing to start.
	Wait bool
	// Monitor is how long a change waits at most before it is taken from the
	// database, Sync before it is uploaded then.
	Monitor, Sync time.Duration
}

func replicaSettings(env *environment) ReplicaSettings {
	return ReplicaSettings{
		URL:     strings.TrimSpace(env.text(replication.Variable, "")),
		Wait:    env.on("DSTACK_SERVER_WAIT_FOR_LEASE"),
		Monitor: env.duration("LITESTREAM_MONITOR_INTERVAL", replication.DefaultInterval, minReplicaInterval, maxReplicaInterval),
		Sync:    env.duration("LITESTREAM_SYNC_INTERVAL", replication.DefaultInterval, minReplicaInterval, maxReplicaInterval),
	}
}

func (r ReplicaSettings) validate() error {
	if r.URL == "" {
		return nil
	}
	if _, err := objects.Parse(r.URL); err != nil {
		return fmt.Errorf("%s: %w", replication.Variable, err)
	}
	return nil
}

// duration reads a time with its unit.
func (e *environment) duration(name string, otherwise, least, most time.Duration) time.Duration {
	v := strings.TrimSpace(e.get(name))
	if v == "" {
		return otherwise
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < least || d > most {
		e.faults = append(e.faults, fmt.Errorf("environment variable %s=%q: must be a time from %s to %s, such as 250ms or 2s", name, v, least, most))
		return otherwise
	}
	return d
}
