-- What a machine of a cloud shall be, what was rented for it (encrypted: its
-- first host key is in it), and what was asked for in vain. idle_since is when
-- the last job left.
ALTER TABLE instances ADD COLUMN wish TEXT;
ALTER TABLE instances ADD COLUMN machine TEXT;
ALTER TABLE instances ADD COLUMN tried TEXT;
ALTER TABLE instances ADD COLUMN idle_since BIGINT;
