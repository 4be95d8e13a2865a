-- What rows say of a record stands with the record as long as few rows speak of it: one row is
-- looked for and written instead of two. Empty: it stands in crossdock.contribution.

ALTER TABLE crossdock.record ADD COLUMN said bytea NOT NULL DEFAULT '';
COMMENT ON COLUMN crossdock.record.said IS
    'What each source row says about the record, after mapping, with exact types. Empty: see crossdock.contribution.';
COMMENT ON TABLE crossdock.contribution IS
    'What each source row says about a record, after mapping, with exact types: where many rows speak of one record, or it is not there yet.';

-- Origins are read through views only: as a text that is JSON they cost half as much to write.
DROP VIEW crossdock.v_origin;
DROP VIEW crossdock.v_inferred;
ALTER TABLE crossdock.record ALTER COLUMN origins TYPE json USING origins::json;

CREATE VIEW crossdock.v_origin AS
SELECT r.entity, r.key, f.field, o.origin ->> 'source' AS source, o.origin ->> 'at' AS at,
       o.origin ->> 'rule' AS rule
FROM crossdock.record r
CROSS JOIN LATERAL json_array_elements(r.origins) AS o (origin)
CROSS JOIN LATERAL json_array_elements_text(o.origin -> 'fields') AS f (field);
COMMENT ON VIEW crossdock.v_origin IS
    'For each field of each record: the source of its value, the place in that source''s log, and the rule.';

CREATE VIEW crossdock.v_inferred AS
SELECT r.entity, r.key, f.field, r.fields ->> f.field AS state, step.value AS inferred
FROM crossdock.record r
CROSS JOIN LATERAL json_array_elements(r.origins) AS o (origin)
CROSS JOIN LATERAL json_array_elements_text(o.origin -> 'fields') AS f (field)
CROSS JOIN LATERAL json_array_elements_text(o.origin -> 'inferred')
    WITH ORDINALITY AS step(value, place)
ORDER BY r.entity, r.key, step.place;
COMMENT ON VIEW crossdock.v_inferred IS
    'Steps of a lifecycle that nobody reported, and that a later one implies.';
