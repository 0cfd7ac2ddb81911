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
, original_name TEXT);
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
, original_name TEXT);
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
, attempts BIGINT NOT NULL DEFAULT 0, attempted_at BIGINT, placement_groups TEXT);
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
, service TEXT, gateway_id TEXT, request_key TEXT);
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
, wish TEXT, machine TEXT, tried TEXT, idle_since BIGINT);
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
    fleet_id TEXT, gateway_id TEXT,
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
CREATE TABLE public_keys (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    key TEXT NOT NULL,
    added_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX public_keys_fingerprint ON public_keys (user_id, fingerprint);
CREATE INDEX users_email ON users (email) WHERE NOT deleted;
CREATE INDEX projects_owner ON projects (owner_id);
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
CREATE INDEX event_targets_gateway ON event_targets (gateway_id);
CREATE TABLE secrets (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX secrets_name ON secrets (project_id, name);
CREATE TABLE file_archives (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    hash TEXT NOT NULL,
    size BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX file_archives_user ON file_archives (user_id, hash);
CREATE INDEX file_archives_hash ON file_archives (hash);
CREATE TABLE repo_codes (
    id TEXT PRIMARY KEY,
    repo_pk TEXT NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    hash TEXT NOT NULL,
    size BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX repo_codes_repo ON repo_codes (repo_pk, hash);
CREATE INDEX repo_codes_hash ON repo_codes (hash);
CREATE TABLE backends (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    type TEXT NOT NULL,
    spec TEXT NOT NULL
);
CREATE UNIQUE INDEX backends_type ON backends (project_id, type);
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
, token TEXT NOT NULL DEFAULT '', formatted BOOLEAN NOT NULL DEFAULT FALSE);
CREATE UNIQUE INDEX volumes_name ON volumes (project_id, name) WHERE NOT deleted;
CREATE INDEX volumes_created ON volumes (created_at, id);
CREATE TABLE volume_attachments (
    volume_id TEXT NOT NULL REFERENCES volumes (id),
    instance_id TEXT NOT NULL REFERENCES instances (id),
    device TEXT, wanted_at BIGINT NOT NULL DEFAULT 0, trouble TEXT NOT NULL DEFAULT '', failed BOOLEAN NOT NULL DEFAULT FALSE, detach_at BIGINT, force_at BIGINT,
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
CREATE UNIQUE INDEX runs_request ON runs (project_id, user_id, request_key) WHERE request_key IS NOT NULL;
CREATE INDEX runs_user ON runs (user_id, submitted_at);
CREATE INDEX runs_active ON runs (submitted_at) WHERE NOT deleted AND status NOT IN ('terminated', 'failed', 'done');
CREATE TABLE job_metrics (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    cpu_micro BIGINT NOT NULL,
    memory BIGINT NOT NULL,
    working_set BIGINT NOT NULL,
    gpus TEXT,
    PRIMARY KEY (job_id, at)
);
CREATE INDEX job_metrics_at ON job_metrics (at);
CREATE INDEX runs_counts ON runs (project_id, user_id, status);
CREATE TABLE strays (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    backend TEXT NOT NULL,
    machine_id TEXT NOT NULL,
    found TEXT NOT NULL,
    hold TEXT NOT NULL,
    found_at BIGINT NOT NULL,
    confirmed_at BIGINT,
    trouble TEXT NOT NULL
);
CREATE UNIQUE INDEX strays_machine ON strays (backend, machine_id);
INSERT INTO schema_versions VALUES (1);
INSERT INTO schema_versions VALUES (10);
INSERT INTO schema_versions VALUES (11);
INSERT INTO schema_versions VALUES (12);
INSERT INTO schema_versions VALUES (13);
INSERT INTO schema_versions VALUES (14);
INSERT INTO schema_versions VALUES (2);
INSERT INTO schema_versions VALUES (3);
INSERT INTO schema_versions VALUES (4);
INSERT INTO schema_versions VALUES (5);
INSERT INTO schema_versions VALUES (6);
INSERT INTO schema_versions VALUES (7);
INSERT INTO schema_versions VALUES (8);
INSERT INTO schema_versions VALUES (9);
INSERT INTO settings VALUES ('encryption_check', 'enc:aes:fixture:BxIFqyK6Ip9iM/d7WM0WZPQ5KXPV9wF7SizAEPaW8tUy+g==');
INSERT INTO users VALUES ('u1', 'Admin', 'admin', 'a@b', 1, 'enc:aes:fixture:foAHf5snBNjUm9aBxQLh26pSFQ1AjY3zes2R5ykkEmzzes0=', '3f08aace122ee2368432c1ca23a049bc640bafbf00fdf33a52429f38ba12dbf9', 'ssh-rsa A admin
', 'enc:aes:fixture:zcCDAWaTZ8nIET4NspmRY/4/tJ5CXvcWXMMwX5oZ/bqR2gtW8drr', 1767323041123456, 0, NULL);
INSERT INTO projects VALUES ('p1', 'Main', 'u1', 0, NULL, 'ssh-rsa B
', 'enc:aes:fixture:2fPXIjbOjDwMchTUeh9ibh8ZnJZ2v7Cpm3WsKfTJMB/voKoUfEmKG4rs', 1767323042123456, 0, NULL);
INSERT INTO members VALUES ('p1', 'u1', 'admin', 0);
INSERT INTO repos VALUES ('repo', 'p1', 'repo-1', '{"repo_type":"virtual"}');
INSERT INTO repo_creds VALUES ('repo', 'u1', 'enc:aes:fixture:mUjlve5PeS/3R3zJXZrGds9CGMb4nVtSh9i6gtF5uSTaU5Ad1ulJfcwUxeuCJ3jROgOeyO7EJ+rl/o9MMt8Re6hpPQMGBWNW/uGQKDYq/8ZjGGBR4SR6Nss0iLr3o/TX+xn0DniWDmyHCA==');
INSERT INTO fleets VALUES ('f1', 'p1', 'lab', 'enc:aes:fixture:mFv+A2mhGMp44LDh4+qhquW+mNbTOPc77J73hVeF1Nlot89eSr7MdtTUsnshPVnXJX3vYQyWRMkerfZ70136E/JJyZdT43IS4sGnq1JyVsQEpM7/B2fZ9DpyWfGB96Kk/A9f6483O1s+PRjRt0c7FZPqoC3gGwR0nCDYJ6qxK5dNGQjfxxEVCBbxN2fQ4J58bi43SVjdwNzYBd3I6lF0G1TSH5/8pOPDv95OKR49JBIKLuNfqo15nJ33IYd1ujnUVppYfEx8DuBgHhnyFO7Gm6l70P/o591HZcrqNFG1tPKHkS+2JIwabJ188hZiLs9kyxqa7zczghlR1f4JUG4bbfQRJcLUNGY3OE+NHOZ7pZhEMPGLbbVdaphweLsJ+YIdHUOTRlId+7Xxg8j7rkROzrJ5b8HLDoYr1waZ+26q5gdEv3hWIxhMMUFbW5Gjz8PJtLPzqkLFfrnNBOqXqzO+NghXB9xNIrCcwpP9dK+BafE7lpYTl1ZwZLFplD+9knfCLmHWRQ/J06SqEEeplupXDr72R4jT/bdNrh79Y9QDS9h/9d9WniDv/zowpUIKTjLi/bXI6Xq/mul+gPtlrx32GdcDgVyDUlUucKub2Z8AzKQx1C4CRRpMww1zC/irT1aOnNFmpn4hujZYzC01utWySKXmGYKcdZ8WuFYl/UsIZnRjmcyXQGx/6eA3D5ArAGuGr9/m8xPO6Tm4IMee9r2DKL6IDIhmyUTa9ApDZQdTogMG9dBuNnDZA4emLH5eqYBimxCpxGX/i9zt5Jo4SH/OJc+YCQ/SBS6URTbzX3toaOdp/F+urULj7tazNjJOelpU9kQBbyia5V1nVMJ5bzXYeLFsgAWa+8WtTGBGz8bnP8OffrrOYj4FpYuOYBm53La/wCIu4MXRP8lfFOKc4M+BMO/dl3LhAqxmIWRIK+kV4ntmc//T86lTpvD/k+hOrhqvO39bL9W+Mr1YrE7IBNfME4YbmEwKTRWwP6CU4b6KJ/VdvreyYfDxMzL0tQZVUXrm3l2OJosCjw2UCwPYvBcdQOdq0Pm0ZvO5T0WX2tafym7++M9mgYKBhbusqXa/Yy/ncWDETj+s/eRo/96e0DPnlSdjAqnr/4ShfG1p', 'active', NULL, 1767323043123456, 1767323043123456, 0, 0, 0, NULL, NULL);
INSERT INTO runs VALUES ('r1', 'p1', 'u1', 'f1', 'train', 1767323044123456, 1767323045123456, 'running', 'job_failed', 'repo-1', 'enc:aes:fixture:zH6V7mLNAM1rHILHOgIBCv7h1B6eUMJspx5zwhTUfzy3C6rG9wJJmO1o0TS8Tu0SxQZNGhiAcuD+vl768RBBhx32Hr6xIkCtaSx8nEr/jCluir5Plbaf5wYuZEK/SvliTX0AZTJFmSUxmDZ2pro1yoxzpIH56EEQZ/rJR64I0ovIHNqI8BM3NsakrVTQ48cSl9EiGOLzz3xu59tzTDSt8PiWeXm+cflqJg7WCKH5pfkLt5rlfrUG71JjLXQk9iD3ps1zFM9pb4508Gkh57EBbqACcDi0B5IFlRV2thYunLLZEbG0OHfvthk8tvpHtdFvRHbaet2Y06NDmPtjMTIaT2FmqJJQ5x3SURl/4wdmK5SsyRFLYYnvoBuI1+m+0X5ywN3ep2D5AHYku5R4c1aQJmcGcKnhSzY3JCn5pddts7xWPIXUQeo54cq8S6QgG+DSWuaVsSO2YO3edcIJqTQ0WpfrF/vEdXWhWD7nJPIv21XJRkccQmlB60VXAilVlcke7ynYHN4r0ns+OlVWPNqDddLPMbDSuAdFSSKlBSnYLcmqjQ/cLUQ72MiiPClV+YzDuNA7BXZCGAz+vkhE9bCoI5qhnJG9hHUym0TLUrnOa/QdSK1oCp1cTf3dPO9aWbCBqliVYS89LSqYCql08ULNVzq93Lm4f0F3Cbc34n+mA0oqMgORhovRmz8sxOp3IKINcJp9JFe43J3eCFU644jOCwT7ez7d97MOut2rQZWYVtbCY9rRIjCjq5O04KxoFv4yuQBzkKQxIhnFscbq/7CBx0pDHHWjJMh9+Dt4Auu/Oq1PjIiV+L9DzypMYPQFMr/1Ar+nAwQf1MXKygzXMxCG1zHsVNbqfefS05HijMOBrLtQf2aPiChjC9UJR7C4ZBLQe1P0vRADzhUByqG8x15B8DhBKzAgBlRQGqsIPfDlZDWOBWuDS8UiBuZIw12h+xJtdi7yeENDuuOZSDVdTqaQsXgYa7OlvbRF+0CU0tr+4wKkd9tCu1sLs2RGWrRoc3lEbbZiKPyTqwbrGlmqz6+Xdjp9bkgI7M73ibZS8/iEjjhJwLveZfEmUKG72nD3VrBUa0gGgmgyWDOOsF/mpHs31b2qkmXjcWX2IT+Mo65kK65cSDVHxGStv33QrBcVN8IwrzJB3TD+4kzJ4pPJ9Wd6CDURvqFBC+Kp6+pwpObwiqIoArna0TYtFgeap1Zitr0/lEIA8cEz1xBBqqI8jO9De6u7bYUKa5kVUu9I+m6U9ixtGxaVo+tx/5uM93AgULQFlT5zFkzKtzPiCP/Xd9yHTngexjPRSxm96pGi3qmSYphnpbdyq+j9S/g4iSCHcj/bXa+aZZEq1s8I/Sj61dBJj7l4Hv0PFx7GhxagcpFoJbBAGd07aRClrOBRxKl8Vm5O5v0hUyZoVxZTBguZfptuiY41XeQxNo9LD8uvTc8s3TWu87hY5MMa2oUUE/kQj4gGZzwZ4HRDSwSHnPD/icQ80tLX2d8WfdmBzpnELQPJXnZLoH1MEg+HUrNJSBXH0pz6nieKvNLjFHC+sTyPKg==', 3, 1, 2, 1767323049123456, 'stopped_by_user', 0, 0, NULL, NULL, NULL);
INSERT INTO instances VALUES ('i1', 'p1', 'f1', 'lab-0', 0, 'remote', 'busy', 'error', 'why', 1767323046123456, 1767323047123456, NULL, 1767323048123456, '10.0.0.5', 'remote', 1.5, '{"name":"instance","resources":{"cpus":4,"memory_mib":8192,"gpus":[],"spot":false,"disk":{"size_mib":0},"cpu_arch":null,"description":""}}', '{"vendor":null,"version":"570"}', '2', 2, 1, 'enc:aes:fixture:AUFM7LzSdd+inlhFwXP2bWVsHgwMEFoRmo/Ym2nSK/ZqHUvMTeOlhVfQzFjNAF2Ap25ktxiJerOQa+Pbfoty4pu3IQM2DztQZdAmbZhVc+UTX6XTh/5Sv44ZCQgORILPElcnadTYAxx4nDJt0ST27G1MtUO0Evr+XBmNzIkytqua8xHg0I+VYrCHJOTcKCvc4g7t1HsRdV98MoX4EikOPiXiyXUmTZG2is09d6nX3y2phTtLkgM5wWg3uzsgxfZARwn3kTbkDqY/nBI9m4vOkgPpWebI', '["ssh-ed25519 AAAA"]', '192.168.0.1', '{"version":"1","digest":"","host_id":"h","boot_id":"","runtime":"","runtime_version":"","live_restore":false,"host":{"hostname":"","arch":"","cpus":0,"memory_bytes":0,"disk_bytes":0,"disk_free":0,"addresses":null,"gpu_vendor":"","gpu_driver":"","gpus":null}}', 1, 1767323049123456, 'h', 42, '["x"]', 1, 0, 0, 0, '{"requirements":{"resources":{"cpu":{"arch":null,"count":{"min":null,"max":null}},"memory":{"min":null,"max":null},"shm_size":null,"gpu":null,"disk":null},"max_price":null,"spot":null,"reservation":null,"multinode":null,"backend_options":null},"profile":{"backends":null,"regions":null,"availability_zones":null,"instance_types":null,"reservation":null,"spot_policy":null,"retry":null,"max_duration":null,"stop_duration":null,"max_price":null,"creation_policy":null,"idle_duration":null,"utilization_policy":null,"startup_order":null,"stop_criteria":null,"schedule":null,"fleets":null,"instances":null,"tags":null,"backend_options":null},"job_id":"j1","user":"admin","nodes":2,"idle_seconds":-1}', 'enc:aes:fixture:I73pQN7mUrSfbXghX/LGlHp1KRQ7NwWLMWqSbB/iYG0OaQB7LXn3nEh0AQvpeCG5wiI5s1BP//jlhYY6OR34Sgp3O+EiqflGbn2dJcDj7BFTwg+vlPXN+KAAYVLUfIclnbkKQ4EBP5fmvdCDudT7uCn60GpRuH7yRnGYGvhceEAgqk5k+9xkmdrQdrPzlxVQmL3gSY0ZGwFZa4LMp2pT74+FtUF4VmVJqwxlzxk4JUYY9gU+HxSm8lkwEtktyCWmCvZ3utTLfJDNiNLxG2iuZ6WWR3ClnY831vRcj0wzfnG+uCg0v/brcpVTuWwPKsPIkOmWbXwqXkg4zQ9Y8YXbfDg0+tFTcqukbJtv6gSgOM7g0S0O8PB5z9dVtfSUFNQl2uimavKfOMx6m794d1R4gmi2W2a6d305RUgsEqdkvqBJTcUmuVOlRo9JsU1kyDX2tLttcmJ8l0+H+yqzgnlW7vOiBKqBwiS7Lytb+1d4fJLHWqkydKT+ZgJocDxTiEmnHSW8QDfqZNg5Hn4SYWPm0ImpFrciroIGqbJUessjDYBbNKfxpkDlsXum4FRIn5aO1sQieZAp2iky6DIAMVGxsJPk3/WiZnECio27xDyZ+4KzUCSCpYNCA5FQ3BJ7YqwwegS704B8fpdMD9ybbvUajnusds1EKX7DXocxX4WrB7ZGtcyeG+vt0S0FH+5DhDz7ZQ==', '[{"backend":"aws","region":"r","type":"","spot":false,"why":"none left"}]', 1767323050123456);
INSERT INTO jobs VALUES ('j1', 'r1', 'p1', 'train', 0, 0, 0, 0, 1767323050123456, 1767323051123456, 1767323052123456, 'running', 'container_exited_with_error', 'm', 3, 'enc:aes:fixture:t8/gwAdQJcTb39Qy6mRTuflCIPKuhaSusfZmclZ3IIDKylSds6F3gOdmTkwVK1Nx+LyPz0Qm+2Lycl02GkQEM6GC36ibxclAG5yMvMPZPDvs36ylVzONMdrJy6edfEYSJBg1nEcyGG6HYUp+WRJ3kGLYawHu6U+bJ3+T8+RL00IkTMj2+QaVooDXdxhtgr4O2JJvxFm9XlLSZtSgu/aZgsVOXIQNrpTMCV9wvzhFZW32UQ/RYGznIJ0KBrRdTbcu0GXN79wM1hNmAiL++v4vJ+G+T/tiAB0IfSI26yBfwDijLgyYmU38uo1K9dZ4Lx3G5cn6J2OgcgPIjwevpMnVk1yE3A/bdmk+Q5UiyelgmC6R6fpRuDijS9K938uzEmcSGPEuK8m6oF5tlHEmQMinxqyL/3tjJWVj14WocQswjJm3OPySFTqGS0aTyN5JHVDLOwG+jDep7vXM6DvlEIZjr+T3Yzj7KCygemtUd0QXxi7KtBwFAf54deHLC0XoV5U0IwKSLJ3LH+t2Kc+UAQJfcnC7sPF/Kfjg/g+dOu5gAJzCBqElBE44T7X9extMrJWIcwT5Py6ymR1EglESJjLj6fZ1S//ot19XXRXXMsLCU9Kp5qF0F4NGQBUawh39o1BuK4je9cimgQDWSa7f5YwUDbkLXBOMmPxrDH2DaGivc0vLw6KxbJECcQKZEH5c4moGyTCKdvzzj51T4qOo5xn+pwY5Z5815W7rNS6RI5XBm6/fTFg47L/PuIM6buMnFvvWlpep7HWJSZ9c+0u2FXtxShS2ChNGedD5Q4w8WecIs1wems2LqMs/jWdId3TTMKwLMQ7/DtEXSy0U4VDwOS3YAlyaiTlfUekWsXWSWON9FMOIFtl9MwG/25yXD4enl2V9vZNP4GG7McZmvnYMyfKVf4A22POi31CuyUrrsLM+KGRFCzEDSuQDX7/20H4o/dsdxXvovqctFLPuRq64Xlh/KZsbfZnC5uId/9sHjdXmtibj4qQjz+fvI6U+5+hWZdpQ4FcfHgij+qdhrC8fILITVG0rSnTGlBqSoM3tyA3TUv7wIIO0tLP5JhudlCU693rw0qcgyvh122kHkRZBgZn+EWzMnSxFGgPPdwlKbELTarmKKaqf/evyWjxVW2so87QQefc=', '{"backend":"remote","base_backend":null,"instance_type":{"name":"","resources":{"cpus":0,"memory_mib":0,"gpus":[],"spot":false,"disk":{"size_mib":0},"cpu_arch":null,"description":""}},"instance_id":"","hostname":null,"internal_ip":null,"public_ip_enabled":false,"instance_network":null,"region":"","availability_zone":null,"reservation":null,"price":0,"username":"root","ssh_port":null,"dockerized":false,"ssh_proxy":null,"backend_data":null,"gpu_driver":null}', '{"network_mode":"host","gpu":null,"cpu":null,"memory":null,"ports":{"10022":1},"volume_names":null,"offer":null,"working_dir":null,"username":null}', 'i1', 'i1', 1, '{"reason":"terminated_by_user","message":"","grace":10,"at":"2026-01-02T03:04:13.123456Z"}', '{"id":"j1","state":"running"}', 1767323054123456, 1767323055123456, 0);
INSERT INTO events VALUES ('ev1', 'Run submitted', 1767323053123456, 'u1');
INSERT INTO event_targets VALUES ('ev1', 0, 'run', 'p1', 'r1', 'train', 'r1', NULL, NULL);
INSERT INTO work VALUES ('run', 'r1', 1767323054123456, 1, NULL, NULL);
INSERT INTO public_keys VALUES ('k1', 'u1', 'laptop', 'ssh-ed25519', 'SHA256:x', 'ssh-ed25519 A', 1767323041123456);
INSERT INTO exports VALUES ('e1', 'p1', 'lend', 1, 1767323047123456);
INSERT INTO imports VALUES ('im1', 'e1', 'p1', 1767323048123456);
INSERT INTO secrets VALUES ('s1', 'p1', 'hf', 'enc:aes:fixture:XMPRwhyyKXHb19A5746jCb4BPY8qlgvVD56xml96lgs=', 1767323041123456, 1767323042123456);
INSERT INTO file_archives VALUES ('a1', 'u1', 'abababababababababababababababababababababababababababababababab', 3, 1767323043123456);
INSERT INTO repo_codes VALUES ('c1', 'repo', 'abababababababababababababababababababababababababababababababab', 3, 1767323043123456);
INSERT INTO backends VALUES ('b1', 'p1', 'aws', 'enc:aes:fixture:cN4adAMcnvnWGyZHiHnQv47fRKuq9G0JuN/ZIoeJf4X/YsB68Gyc/KNd');
INSERT INTO gateways VALUES ('g1', 'p1', 'gate', '{"type":"gateway","name":"gate","default":null,"backend":"","region":"","instance_type":null,"domain":null,"public_ip":false,"load_balancer":null,"certificate":null,"replicas":null,"tags":null}', 'running', NULL, NULL, 1767323049123456, 1767323049123456, 0, 0);
INSERT INTO gateway_replicas VALUES ('gr1', 'g1', 0, 'aws', NULL, NULL, 1767323049123456, 'running', NULL);
INSERT INTO volumes VALUES ('v1', 'p1', 'u1', 'data', '{"auto_cleanup_duration":null,"availability_zone":null,"backend":"aws","name":"data","region":"","size":10,"tags":null,"type":"volume","volume_id":null}', 'active', NULL, '{"backend":null,"volume_id":"vol-1","size_gb":null,"availability_zone":null,"price":null,"attachable":false,"detachable":false,"backend_data":null}', 1767323044123456, 1767323045123456, NULL, 0, 0, NULL, 0, 't', 1);
INSERT INTO volume_attachments VALUES ('v1', 'i1', '/dev/sdf', 1767323046123456, '', 0, NULL, NULL);
INSERT INTO health_checks VALUES ('h1', 'i1', 1767323050123456, 'healthy', NULL);
INSERT INTO job_metrics VALUES ('j1', 1767323051123456, 1, 2, 3, '[{"memory_bytes":0,"util_percent":0}]');
INSERT INTO strays VALUES ('st1', 'p1', 'aws', 'i-2', '{"region":"r","server":"","name":"","type":"","created_at":"0001-01-01T00:00:00Z"}', 'young', 1767323052123456, NULL, '');
