-- token names the one volume that a cloud makes, committed before it is asked;
-- formatted says that a host may not make a file system on it any more.
ALTER TABLE volumes ADD COLUMN token TEXT NOT NULL DEFAULT '';
ALTER TABLE volumes ADD COLUMN formatted BOOLEAN NOT NULL DEFAULT FALSE;
-- An attachment is wanted, is there once it has a device, and goes.
ALTER TABLE volume_attachments ADD COLUMN wanted_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE volume_attachments ADD COLUMN trouble TEXT NOT NULL DEFAULT '';
ALTER TABLE volume_attachments ADD COLUMN failed BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE volume_attachments ADD COLUMN detach_at BIGINT;
ALTER TABLE volume_attachments ADD COLUMN force_at BIGINT;
