-- What users uploaded: a row lets its user or repo use the blob of that
-- SHA-256, which lies outside of the database.
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
