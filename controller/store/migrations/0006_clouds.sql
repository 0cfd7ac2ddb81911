-- backends.spec is the whole configuration with its credentials, encrypted.
CREATE TABLE backends (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    type TEXT NOT NULL,
    spec TEXT NOT NULL
);
CREATE UNIQUE INDEX backends_type ON backends (project_id, type);

-- A gateway's row is deleted once nothing of it is left.
CREATE TABLE gateways (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    configuration TEXT NOT NULL,
    status TEXT NOT NULL,
    status_message TEXT,
    hostname TEXT,
    created_at BIGINT NOT NULL,
    last_processed_at BIGINT NOT NULL,
    deleting BOOLEAN NOT NULL,
    version BIGINT NOT NULL
);
CREATE UNIQUE INDEX gateways_name ON gateways (project_id, name);

CREATE TABLE gateway_replicas (
    id TEXT PRIMARY KEY,
    gateway_id TEXT NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    num BIGINT NOT NULL,
    backend TEXT NOT NULL,
    hostname TEXT,
    region TEXT,
    created_at BIGINT NOT NULL,
    status TEXT NOT NULL,
    status_message TEXT
);
CREATE INDEX gateway_replicas_gateway ON gateway_replicas (gateway_id);

-- A project's default gateway may be one that it imports.
CREATE TABLE default_gateways (
    project_id TEXT PRIMARY KEY REFERENCES projects (id),
    gateway_id TEXT NOT NULL REFERENCES gateways (id) ON DELETE CASCADE
);
CREATE INDEX default_gateways_gateway ON default_gateways (gateway_id);

CREATE TABLE volumes (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    configuration TEXT NOT NULL,
    status TEXT NOT NULL,
    status_message TEXT,
    provisioning TEXT,
    created_at BIGINT NOT NULL,
    last_processed_at BIGINT NOT NULL,
    last_used_at BIGINT,
    deleting BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    deleted_at BIGINT,
    version BIGINT NOT NULL
);
CREATE UNIQUE INDEX volumes_name ON volumes (project_id, name) WHERE NOT deleted;
CREATE INDEX volumes_created ON volumes (created_at, id);

CREATE TABLE volume_attachments (
    volume_id TEXT NOT NULL REFERENCES volumes (id),
    instance_id TEXT NOT NULL REFERENCES instances (id),
    device TEXT,
    PRIMARY KEY (volume_id, instance_id)
);
CREATE INDEX volume_attachments_instance ON volume_attachments (instance_id);

CREATE TABLE health_checks (
    id TEXT PRIMARY KEY,
    instance_id TEXT NOT NULL REFERENCES instances (id),
    collected_at BIGINT NOT NULL,
    status TEXT NOT NULL,
    events TEXT
);
CREATE INDEX health_checks_instance ON health_checks (instance_id, collected_at);
