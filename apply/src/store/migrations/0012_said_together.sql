-- What rows say of a record stands with the record as long as few rows speak of it: one row is
-- looked for and written instead of two. Empty: it stands in crossdock.contribution.

ALTER TABLE crossdock.record ADD COLUMN said bytea NOT NULL DEFAULT '';
COMMENT ON COLUMN crossdock.record.said IS
    'What each source row says about the record, after mapping, with exact types. Empty: see crossdock.contribution.';
COMMENT ON TABLE crossdock.contribution IS
    'What each source row says about a record, after mapping, with exact types: where many rows speak of one record, or it is not there yet.';
