-- Times are Unix microseconds (UTC). Text columns named spec, access, creds,
-- token and private_key are encrypted. JSON is text.
CREATE TABLE schema_versions (version BIGINT PRIMARY KEY);

CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    global_role TEXT NOT NULL,
    email TEXT,
    active BOOLEAN NOT NULL,
    token TEXT NOT NULL,
    token_hash TEXT NOT NULL,
    public_key TEXT NOT NULL,
    private_key TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL
);
CREATE UNIQUE INDEX users_name ON users (lower(name)) WHERE NOT deleted;
CREATE UNIQUE INDEX users_token ON users (token_hash);

CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    owner_id TEXT NOT NULL REFERENCES users (id),
    is_public BOOLEAN NOT NULL,
    templates_repo TEXT,
    public_key TEXT NOT NULL,
    private_key TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL
);
CREATE UNIQUE INDEX projects_name ON projects (lower(name)) WHERE NOT deleted;

CREATE TABLE members (
    project_id TEXT NOT NULL REFERENCES projects (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    role TEXT NOT NULL,
    num BIGINT NOT NULL,
    PRIMARY KEY (project_id, user_id)
);
CREATE INDEX members_user ON members (user_id);

CREATE TABLE repos (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    repo_id TEXT NOT NULL,
    info TEXT NOT NULL
);
CREATE UNIQUE INDEX repos_repo ON repos (project_id, repo_id);

CREATE TABLE repo_creds (
    repo_pk TEXT NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES users (id),
    creds TEXT NOT NULL,
    PRIMARY KEY (repo_pk, user_id)
);

CREATE TABLE fleets (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    status TEXT NOT NULL,
    status_message TEXT,
    created_at BIGINT NOT NULL,
    last_processed_at BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL,
    version BIGINT NOT NULL
);
CREATE UNIQUE INDEX fleets_name ON fleets (project_id, name) WHERE NOT deleted;
CREATE INDEX fleets_created ON fleets (created_at, id);

CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    fleet_id TEXT REFERENCES fleets (id),
    name TEXT NOT NULL,
    submitted_at BIGINT NOT NULL,
    last_processed_at BIGINT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    repo_id TEXT,
    spec TEXT NOT NULL,
    priority BIGINT NOT NULL,
    deployment_num BIGINT NOT NULL,
    resubmissions BIGINT NOT NULL,
    next_trigger_at BIGINT,
    stop TEXT,
    deleted BOOLEAN NOT NULL,
    version BIGINT NOT NULL
);
CREATE UNIQUE INDEX runs_name ON runs (project_id, name) WHERE NOT deleted;
CREATE INDEX runs_submitted ON runs (submitted_at, id);
CREATE INDEX runs_project ON runs (project_id, submitted_at);
CREATE INDEX runs_fleet ON runs (fleet_id);
CREATE INDEX runs_pending ON runs (project_id) WHERE status = 'pending';

CREATE TABLE instances (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    fleet_id TEXT NOT NULL REFERENCES fleets (id),
    name TEXT NOT NULL,
    num BIGINT NOT NULL,
    backend TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    reason_message TEXT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    last_processed_at BIGINT NOT NULL,
    hostname TEXT NOT NULL,
    region TEXT NOT NULL,
    price DOUBLE PRECISION NOT NULL,
    type TEXT,
    gpu_driver TEXT,
    blocks_wanted TEXT,
    total_blocks BIGINT NOT NULL,
    busy_blocks BIGINT NOT NULL,
    access TEXT NOT NULL,
    host_keys TEXT,
    internal_ip TEXT,
    info TEXT,
    unreachable BOOLEAN NOT NULL,
    unreachable_since BIGINT,
    host_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    orphans TEXT,
    unhealthy BOOLEAN NOT NULL,
    uninstalled BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX instances_fleet ON instances (fleet_id);
CREATE INDEX instances_created ON instances (created_at, id);
CREATE INDEX instances_project ON instances (project_id);
CREATE INDEX instances_host ON instances (hostname) WHERE NOT deleted;
CREATE INDEX instances_host_id ON instances (host_id) WHERE NOT deleted;

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (id),
    project_id TEXT NOT NULL REFERENCES projects (id),
    run_name TEXT NOT NULL,
    replica_num BIGINT NOT NULL,
    job_num BIGINT NOT NULL,
    submission_num BIGINT NOT NULL,
    deployment_num BIGINT NOT NULL,
    submitted_at BIGINT NOT NULL,
    last_processed_at BIGINT NOT NULL,
    finished_at BIGINT,
    status TEXT NOT NULL,
    reason TEXT,
    reason_message TEXT,
    exit_status BIGINT,
    spec TEXT NOT NULL,
    provisioning TEXT,
    runtime TEXT,
    instance_id TEXT REFERENCES instances (id),
    used_instance_id TEXT REFERENCES instances (id),
    blocks BIGINT NOT NULL,
    stop TEXT,
    task TEXT,
    running_at BIGINT,
    disconnected_at BIGINT,
    version BIGINT NOT NULL
);
CREATE UNIQUE INDEX jobs_submission ON jobs (run_id, replica_num, job_num, submission_num);
CREATE INDEX jobs_instance ON jobs (instance_id);
CREATE INDEX jobs_waiting ON jobs (project_id) WHERE status = 'submitted' AND instance_id IS NULL;

CREATE TABLE events (
    id TEXT PRIMARY KEY,
    message TEXT NOT NULL,
    recorded_at BIGINT NOT NULL,
    actor_id TEXT
);
CREATE INDEX events_recorded ON events (recorded_at, id);

CREATE TABLE event_targets (
    event_id TEXT NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    num BIGINT NOT NULL,
    type TEXT NOT NULL,
    project_id TEXT,
    target_id TEXT NOT NULL,
    name TEXT NOT NULL,
    run_id TEXT,
    fleet_id TEXT,
    PRIMARY KEY (event_id, num)
);
CREATE INDEX event_targets_target ON event_targets (target_id);
CREATE INDEX event_targets_project ON event_targets (project_id);
CREATE INDEX event_targets_run ON event_targets (run_id);
CREATE INDEX event_targets_fleet ON event_targets (fleet_id);

CREATE TABLE work (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    next_at BIGINT,
    seq BIGINT NOT NULL,
    owner TEXT,
    lease_until BIGINT,
    PRIMARY KEY (kind, id)
);
CREATE INDEX work_next ON work (next_at);
