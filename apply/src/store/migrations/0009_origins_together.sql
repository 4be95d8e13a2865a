-- Fields with the same origin are kept together: most of a record was where its values come from.

UPDATE crossdock.record r
SET origins = coalesce((
    SELECT jsonb_agg(origin || jsonb_build_object('fields', fields) ORDER BY fields)
    FROM (
        SELECT o.value AS origin, jsonb_agg(o.key ORDER BY o.key COLLATE "C") AS fields
        FROM jsonb_each(r.origins) o GROUP BY o.value
    ) g
), '[]'::jsonb);
COMMENT ON TABLE crossdock.record IS
    'Canonical records. fields: values (decimals and times as text); origins: who owns them, see v_origin.';

CREATE VIEW crossdock.v_origin AS
SELECT r.entity, r.key, f.field, o.origin ->> 'source' AS source, o.origin ->> 'at' AS at,
       o.origin ->> 'rule' AS rule
FROM crossdock.record r
CROSS JOIN LATERAL jsonb_array_elements(r.origins) AS o (origin)
CROSS JOIN LATERAL jsonb_array_elements_text(o.origin -> 'fields') AS f (field);
COMMENT ON VIEW crossdock.v_origin IS
    'For each field of each record: the source of its value, the place in that source''s log, and the rule.';

CREATE OR REPLACE VIEW crossdock.v_inferred AS
SELECT r.entity, r.key, f.field, r.fields ->> f.field AS state, step.value AS inferred
FROM crossdock.record r
CROSS JOIN LATERAL jsonb_array_elements(r.origins) AS o (origin)
CROSS JOIN LATERAL jsonb_array_elements_text(o.origin -> 'fields') AS f (field)
CROSS JOIN LATERAL jsonb_array_elements_text(o.origin -> 'inferred')
    WITH ORDINALITY AS step(value, place)
WHERE o.origin ? 'inferred'
ORDER BY r.entity, r.key, step.place;
