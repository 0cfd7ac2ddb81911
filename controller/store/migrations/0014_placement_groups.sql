-- Placement groups of a cluster's machines, as JSON; they go with the fleet.
ALTER TABLE fleets ADD COLUMN placement_groups TEXT;
