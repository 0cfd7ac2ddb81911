CREATE INDEX runs_counts ON runs (project_id, user_id, status);
