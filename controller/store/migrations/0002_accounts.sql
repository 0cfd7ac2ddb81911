-- SSH keys that users uploaded: key is the OpenSSH line without options and
-- comment. users.original_name and projects.original_name are what a deleted
-- one was called: its name is a new one then.
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

ALTER TABLE users ADD COLUMN original_name TEXT;
ALTER TABLE projects ADD COLUMN original_name TEXT;
CREATE INDEX users_email ON users (email) WHERE NOT deleted;
CREATE INDEX projects_owner ON projects (owner_id);
