-- Floods of changes that wait until somebody has looked; steps that nobody reported.

CREATE TABLE crossdock.rate_guard (
    rule   text COLLATE "C" PRIMARY KEY,
    source text COLLATE "C" NOT NULL,
    state  jsonb NOT NULL
);
COMMENT ON TABLE crossdock.rate_guard IS
    'What rate guards have counted, and what they have stopped, as of the progress of integrate.';

CREATE VIEW crossdock.v_stopped AS
SELECT g.rule, g.source,
       to_timestamp((g.state #>> '{stopped,commit_micros}')::numeric / 1000000) AS since,
       g.state #>> '{stopped,position}' AS position,
       (g.state #>> '{stopped,changes}')::bigint AS changes,
       (g.state ->> 'releasing')::boolean AS releasing,
       (SELECT count(*) FROM crossdock.row_reference r
        WHERE r.on_source = g.source AND r.on_table_name = 'crossdock.rate_guard'
          AND r.on_pk = g.rule) AS rows_waiting
FROM crossdock.rate_guard g
WHERE jsonb_typeof(g.state -> 'stopped') = 'object';
COMMENT ON VIEW crossdock.v_stopped IS
    'Rate guards that have stopped changes, and how many rows wait: crossdock rules release RULE.';

CREATE VIEW crossdock.v_inferred AS
SELECT r.entity, r.key, o.key AS field, r.fields ->> o.key AS state, step.value AS inferred
FROM crossdock.record r
CROSS JOIN LATERAL jsonb_each(r.origins) AS o
CROSS JOIN LATERAL jsonb_array_elements_text(o.value -> 'inferred')
    WITH ORDINALITY AS step(value, place)
WHERE o.value ? 'inferred'
ORDER BY r.entity, r.key, step.place;
COMMENT ON VIEW crossdock.v_inferred IS
    'Steps of a lifecycle that nobody reported, and that a later one implies.';
