-- The records of a lane may be divided over several connections to its target.

ALTER TABLE crossdock.lane_layout ADD COLUMN workers integer NOT NULL DEFAULT 1;
COMMENT ON TABLE crossdock.lane_layout IS
    'Which rules'' deliveries go through which lane of a target, and over how many connections the records of each lane are divided: one layout for all deliveries after from_seq, up to the next layout.';
