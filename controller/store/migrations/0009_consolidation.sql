-- How often in a row a cloud fleet had to be brought to its size, and when last.
ALTER TABLE fleets ADD COLUMN attempts BIGINT NOT NULL DEFAULT 0;
ALTER TABLE fleets ADD COLUMN attempted_at BIGINT;
