-- A project lends fleets and gateways to other projects. A row of imports is
-- a project that may use an export; gateways have no reference, because an
-- export outlives them as little as it outlives a deleted fleet: readers look
-- at what is not deleted.
CREATE TABLE exports (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    is_global BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX exports_name ON exports (project_id, name);

CREATE TABLE imports (
    id TEXT PRIMARY KEY,
    export_id TEXT NOT NULL REFERENCES exports (id) ON DELETE CASCADE,
    project_id TEXT NOT NULL REFERENCES projects (id),
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX imports_project ON imports (project_id, export_id);
CREATE INDEX imports_export ON imports (export_id);

CREATE TABLE exported_fleets (
    export_id TEXT NOT NULL REFERENCES exports (id) ON DELETE CASCADE,
    fleet_id TEXT NOT NULL REFERENCES fleets (id),
    num BIGINT NOT NULL,
    PRIMARY KEY (export_id, fleet_id)
);
CREATE INDEX exported_fleets_fleet ON exported_fleets (fleet_id);

CREATE TABLE exported_gateways (
    export_id TEXT NOT NULL REFERENCES exports (id) ON DELETE CASCADE,
    gateway_id TEXT NOT NULL,
    num BIGINT NOT NULL,
    PRIMARY KEY (export_id, gateway_id)
);
CREATE INDEX exported_gateways_gateway ON exported_gateways (gateway_id);

-- The gateway that an event is within: its own id, or that of its replica.
ALTER TABLE event_targets ADD COLUMN gateway_id TEXT;
CREATE INDEX event_targets_gateway ON event_targets (gateway_id);
