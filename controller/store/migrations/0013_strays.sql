-- Machines of clouds that carry this server's tag and that no instance has.
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
