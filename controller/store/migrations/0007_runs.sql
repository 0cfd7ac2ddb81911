-- Where a service is reached: JSON; its gateway, if it has one.
ALTER TABLE runs ADD COLUMN service TEXT;
ALTER TABLE runs ADD COLUMN gateway_id TEXT;
-- The caller's name for the request that made the run: repeating it gives the
-- same run.
ALTER TABLE runs ADD COLUMN request_key TEXT;
CREATE UNIQUE INDEX runs_request ON runs (project_id, user_id, request_key) WHERE request_key IS NOT NULL;
CREATE INDEX runs_user ON runs (user_id, submitted_at);
CREATE INDEX runs_active ON runs (submitted_at) WHERE NOT deleted AND status NOT IN ('terminated', 'failed', 'done');
