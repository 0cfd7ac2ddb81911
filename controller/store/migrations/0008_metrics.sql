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
