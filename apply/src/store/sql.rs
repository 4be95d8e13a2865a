//! Every statement of the canonical store. All take arrays and run once for a whole batch.

macro_rules! insert_rows {
    () => {
        "
INSERT INTO crossdock.source_row
    (source, table_name, pk, image, at_order, deleted, waiting_for, refers_to)
SELECT a, b, c, d, e, f, coalesce(g::jsonb, '[]'), coalesce(h::jsonb, '[]')
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::bool[], $7::text[],
            $8::text[])
    AS n(a, b, c, d, e, f, g, h)"
    };
}

/// Rows that the store does not have: looking for them first is half as much work again.
pub(super) const ADD_ROWS: &str = insert_rows!();

pub(super) const PUT_ROWS: &str = concat!(
    insert_rows!(),
    "
ON CONFLICT (source, table_name, pk) DO UPDATE SET
    image = excluded.image, at_order = excluded.at_order, deleted = excluded.deleted,
    waiting_for = excluded.waiting_for, refers_to = excluded.refers_to"
);

/// Only references that are not there any more: most changes leave them as they are.
pub(super) const DROP_REFERENCES: &str = "
DELETE FROM crossdock.row_reference r
USING unnest($1::text[], $2::text[], $3::text[]) AS n(a, b, c)
WHERE r.source = n.a AND r.table_name = n.b AND r.pk = n.c
  AND (r.source, r.table_name, r.pk, r.on_source, r.on_table_name, r.on_pk) NOT IN (
    SELECT a, b, c, d, e, f
    FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
        AS k(a, b, c, d, e, f))";

pub(super) const PUT_REFERENCES: &str = "
INSERT INTO crossdock.row_reference (source, table_name, pk, on_source, on_table_name, on_pk)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
ON CONFLICT DO NOTHING";

pub(super) const DROP_CONTRIBUTIONS: &str = "
DELETE FROM crossdock.contribution c
USING unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS n(a, b, c, d, e)
WHERE c.entity = n.a AND c.key = n.b AND c.source = n.c AND c.table_name = n.d AND c.pk = n.e";

macro_rules! insert_contributions {
    () => {
        "
INSERT INTO crossdock.contribution
    (entity, key, source, table_name, pk, fields, links, at_order)
SELECT a, b, c, d, e, f, coalesce(g::jsonb, '{}'), h
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[],
    $8::text[]) AS n(a, b, c, d, e, f, g, h)"
    };
}

pub(super) const ADD_CONTRIBUTIONS: &str = insert_contributions!();

pub(super) const PUT_CONTRIBUTIONS: &str = concat!(
    insert_contributions!(),
    "
ON CONFLICT (entity, key, source, table_name, pk) DO UPDATE SET
    fields = excluded.fields, links = excluded.links, at_order = excluded.at_order"
);

macro_rules! insert_records {
    () => {
        "
INSERT INTO crossdock.record (entity, key, version, deleted, fields, origins, links, said)
SELECT a, b, c, d, e::jsonb, f::json, coalesce(g::jsonb, '{}'), coalesce(h, '')
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bool[], $5::text[], $6::text[], $7::text[],
    $8::bytea[]) AS n(a, b, c, d, e, f, g, h)"
    };
}

pub(super) const ADD_RECORDS: &str = insert_records!();

/// A record may be put for what is said of it only: it is as old as it was, then.
pub(super) const PUT_RECORDS: &str = concat!(
    insert_records!(),
    "
ON CONFLICT (entity, key) DO UPDATE SET
    version = excluded.version, deleted = excluded.deleted, fields = excluded.fields,
    origins = excluded.origins, links = excluded.links, said = excluded.said,
    updated_at = CASE WHEN record.version = excluded.version THEN record.updated_at
        ELSE excluded.updated_at END"
);

/// Links change far less often than their records: only what differs is touched. $3 is the names
/// of the links that a record still has, joined by U+001F.
pub(super) const DROP_LINKS: &str = "
DELETE FROM crossdock.link l
USING unnest($1::text[], $2::text[], $3::text[]) AS n(a, b, c)
WHERE l.entity = n.a AND l.key = n.b AND l.name <> ALL (string_to_array(n.c, E'\\x1f'))";

pub(super) const PUT_LINKS: &str = "
INSERT INTO crossdock.link (entity, key, name, to_entity, to_key)
SELECT a, b, c, d, e
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS n(a, b, c, d, e)
WHERE NOT EXISTS (
    SELECT FROM crossdock.link l
    WHERE l.entity = a AND l.key = b AND l.name = c AND l.to_entity = d AND l.to_key = e
)
ON CONFLICT (entity, key, name) DO UPDATE SET
    to_entity = excluded.to_entity, to_key = excluded.to_key";

pub(super) const PUT_EVIDENCE: &str = "
INSERT INTO crossdock.evidence
    (id, entity, key, kind, event_time, recorded_at, source, table_name, pk, authority, at_order,
     withdrawn, data)
SELECT a, b, c, d, e, f, g, h, i, j, k, l, m::jsonb
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[],
    $6::timestamptz[], $7::text[], $8::text[], $9::text[], $10::int[], $11::text[], $12::bool[],
    $13::text[]) AS n(a, b, c, d, e, f, g, h, i, j, k, l, m)
ON CONFLICT (id) DO UPDATE SET
    entity = excluded.entity, key = excluded.key, kind = excluded.kind,
    event_time = excluded.event_time, recorded_at = excluded.recorded_at,
    source = excluded.source, table_name = excluded.table_name, pk = excluded.pk,
    authority = excluded.authority, at_order = excluded.at_order,
    withdrawn = excluded.withdrawn, data = excluded.data";

/// Versions get their numbers in the order in which they are given: a function's rows are inserted
/// as they come, and sorting them would be a tenth of the work.
pub(super) const ADD_HISTORY: &str = "
INSERT INTO crossdock.history
    (entity, key, version, source, transaction, position, committed_at, changes, ruleset)
SELECT a, b, c, d, e, f, g, h::jsonb, $9::text
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[],
    $7::timestamptz[], $8::text[]) AS n(a, b, c, d, e, f, g, h)";

pub(super) const CLOSE_EXCEPTIONS: &str = "
UPDATE crossdock.exception SET open = false
WHERE id = ANY ($1::uuid[]) AND open";

/// Counts up only where the commit goes beyond what has been integrated before: replaying after a
/// rewind raises what it raised then, and must not count it twice.
pub(super) const RAISE_EXCEPTIONS: &str = "
WITH fresh AS (
    SELECT cardinality($12::text[]) = 0 OR EXISTS (
        SELECT FROM unnest($12::text[], $13::bigint[]) AS n(source, seq)
        LEFT JOIN crossdock.progress p ON p.stage = 'integrate' AND p.source = n.source
        WHERE p.high_seq IS NULL OR n.seq > p.high_seq
    ) AS yes
)
INSERT INTO crossdock.exception
    (id, kind, entity, key, source, rule, team, text, context, count, open)
SELECT a, b, c, d, e, f, g, h, i::jsonb, j, k
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::bigint[], $11::bool[]) AS n(a, b, c, d, e, f, g, h, i, j, k)
ON CONFLICT (id) DO UPDATE SET
    kind = excluded.kind, entity = excluded.entity, key = excluded.key,
    source = excluded.source, rule = excluded.rule, team = excluded.team, text = excluded.text,
    context = excluded.context, open = excluded.open,
    count = exception.count + CASE WHEN (SELECT yes FROM fresh) THEN excluded.count ELSE 0 END,
    last_at = CASE WHEN (SELECT yes FROM fresh) THEN excluded.last_at ELSE exception.last_at END";

pub(super) const PUT_RELEASES: &str = "
INSERT INTO crossdock.release
    (rule, business_key, entity, key, unmet, depends, released, released_at)
SELECT a, b, c, d, ARRAY(SELECT jsonb_array_elements_text(e::jsonb)), f::jsonb, g,
    CASE WHEN g THEN now() END
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bool[])
    AS n(a, b, c, d, e, f, g)
ON CONFLICT (rule, business_key) DO UPDATE SET
    entity = excluded.entity, key = excluded.key, depends = excluded.depends,
    unmet = CASE WHEN release.released THEN '{}' ELSE excluded.unmet END,
    released = release.released OR excluded.released,
    released_at = coalesce(release.released_at, excluded.released_at)";

pub(super) const DROP_DEPENDS: &str = "
DELETE FROM crossdock.release_depends d
USING unnest($1::text[], $2::text[]) AS n(a, b)
WHERE d.rule = n.a AND d.business_key = n.b";

pub(super) const PUT_DEPENDS: &str = "
INSERT INTO crossdock.release_depends (rule, business_key, entity, key)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
ON CONFLICT DO NOTHING";

pub(super) const PUT_DEADLINES: &str = "
INSERT INTO crossdock.deadline (id, entity, key, rule, due_at, raised)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::bool[])
ON CONFLICT (id) DO UPDATE SET
    entity = excluded.entity, key = excluded.key, rule = excluded.rule, due_at = excluded.due_at,
    raised = excluded.raised";

pub(super) const DROP_DEADLINES: &str = "
DELETE FROM crossdock.deadline WHERE id = ANY ($1::uuid[])";

pub(super) const GET_DEADLINES: &str = "
SELECT d.entity, d.key, d.id, d.rule, d.due_at, d.raised
FROM unnest($1::text[], $2::text[]) AS n(a, b)
JOIN crossdock.deadline d ON d.entity = n.a AND d.key = n.b";

pub(super) const GET_DUE: &str = "
SELECT entity, key FROM crossdock.deadline
WHERE NOT raised AND due_at <= $1 ORDER BY due_at LIMIT $2";

pub(super) const GET_NEXT_DUE: &str = "
SELECT min(due_at) FROM crossdock.deadline WHERE NOT raised";

/// Numbers come from the row that `fence` has locked, so that they are visible in their order.
/// What is owed already leaves a hole in them.
pub(super) const OWE_DELIVERIES: &str = "
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
        $7::text[], $8::smallint[]) WITH ORDINALITY AS n(a, b, c, d, e, f, g, h, place)
), counter AS (
    UPDATE crossdock.meta SET delivery_seq = delivery_seq + (SELECT count(*) FROM given)
    RETURNING delivery_seq - (SELECT count(*) FROM given) AS base
)
INSERT INTO crossdock.delivery (seq, event_id, target, rule, entity, key, writes, reverts, hops)
SELECT base + place, a, b, c, d, e, f::jsonb, g, h FROM given, counter ORDER BY place
ON CONFLICT (event_id) DO NOTHING";

pub(super) const PUT_PROGRESS: &str = "
INSERT INTO crossdock.progress (stage, source, seq, high_seq, position, committed_at)
SELECT 'integrate', a, b, b, c, d
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[]) AS n(a, b, c, d)
ON CONFLICT (stage, source) DO UPDATE SET
    seq = excluded.seq, high_seq = greatest(progress.high_seq, excluded.seq),
    position = excluded.position, committed_at = excluded.committed_at, at = excluded.at";

pub(super) const GET_ROWS: &str = "
SELECT r.source, r.table_name, r.pk, r.image, r.at_order, r.deleted, r.waiting_for, r.refers_to
FROM unnest($1::text[], $2::text[], $3::text[]) AS n(a, b, c)
JOIN crossdock.source_row r ON r.source = n.a AND r.table_name = n.b AND r.pk = n.c";

pub(super) const GET_STALE_ROWS: &str = "
SELECT r.source, r.table_name, r.pk, r.image, r.at_order, r.deleted, r.waiting_for, r.refers_to
FROM crossdock.source_row r
WHERE r.source = $1 AND r.table_name = $2 AND NOT r.deleted AND r.at_order < $3 AND r.pk > $4
ORDER BY r.pk LIMIT $5";

pub(super) const GET_REFERRING: &str = "
SELECT r.source, r.table_name, r.pk, r.image, r.at_order, r.deleted, r.waiting_for, r.refers_to
FROM unnest($1::text[], $2::text[], $3::text[]) AS n(a, b, c)
JOIN crossdock.row_reference p ON p.on_source = n.a AND p.on_table_name = n.b AND p.on_pk = n.c
JOIN crossdock.source_row r
    ON r.source = p.source AND r.table_name = p.table_name AND r.pk = p.pk";

pub(super) const GET_REFERRING_SOME: &str = "
SELECT r.source, r.table_name, r.pk, r.image, r.at_order, r.deleted, r.waiting_for, r.refers_to
FROM crossdock.row_reference p
JOIN crossdock.source_row r
    ON r.source = p.source AND r.table_name = p.table_name AND r.pk = p.pk
WHERE p.on_source = $1 AND p.on_table_name = $2 AND p.on_pk = $3
ORDER BY p.source, p.table_name, p.pk LIMIT $4";

pub(super) const PUT_GUARDS: &str = "
INSERT INTO crossdock.rate_guard (rule, source, state)
SELECT a, b, c::jsonb FROM unnest($1::text[], $2::text[], $3::text[]) AS n(a, b, c)
ON CONFLICT (rule) DO UPDATE SET source = excluded.source, state = excluded.state";

pub(super) const GET_RECORDS: &str = "
SELECT r.entity, r.key, r.version, r.deleted, r.fields, r.origins, r.links, r.said
FROM unnest($1::text[], $2::text[]) AS n(a, b)
JOIN crossdock.record r ON r.entity = n.a AND r.key = n.b";

pub(super) const GET_CONTRIBUTIONS: &str = "
SELECT c.entity, c.key, c.source, c.table_name, c.pk, c.fields, c.links, c.at_order
FROM unnest($1::text[], $2::text[]) AS n(a, b)
JOIN crossdock.contribution c ON c.entity = n.a AND c.key = n.b";

pub(super) const GET_EVIDENCE: &str = "
SELECT e.entity, e.key, e.source, e.table_name, e.pk, e.id, e.kind, e.event_time, e.recorded_at,
    e.authority, e.at_order, e.withdrawn, e.data
FROM unnest($1::text[], $2::text[]) AS n(a, b)
JOIN crossdock.evidence e ON e.entity = n.a AND e.key = n.b";

pub(super) const GET_EVENTS: &str = "
SELECT e.entity, e.key, e.source, e.table_name, e.pk, e.id, e.kind, e.event_time, e.recorded_at,
    e.authority, e.at_order, e.withdrawn, e.data, coalesce(r.links, '{}'::jsonb)
FROM crossdock.evidence e
LEFT JOIN crossdock.record r ON r.entity = e.entity AND r.key = e.key
WHERE ($1::text IS NULL OR e.entity = $1) AND (e.recorded_at, e.id) > ($2::timestamptz, $3::uuid)
ORDER BY e.recorded_at, e.id LIMIT $4";

pub(super) const GET_RELEASES: &str = "
SELECT r.entity, r.key, r.rule, r.business_key, r.unmet, r.depends, r.released
FROM unnest($1::text[], $2::text[]) AS n(a, b)
JOIN crossdock.release r ON r.entity = n.a AND r.key = n.b";

pub(super) const GET_LINKING: &str = "
SELECT l.to_entity, l.to_key, l.entity, l.key
FROM unnest($1::text[], $2::text[]) AS n(a, b)
JOIN crossdock.link l ON l.to_entity = n.a AND l.to_key = n.b";

pub(super) const GET_RELEASES_ON: &str = "
SELECT r.entity, r.key, r.rule, r.business_key, r.unmet, r.depends, r.released
FROM unnest($1::text[], $2::text[]) AS n(a, b)
JOIN crossdock.release_depends d ON d.entity = n.a AND d.key = n.b
JOIN crossdock.release r ON r.rule = d.rule AND r.business_key = d.business_key";

pub(super) const GET_PROGRESS: &str = "
SELECT source, seq, position, committed_at
FROM crossdock.progress WHERE stage = 'integrate' ORDER BY source";

pub(super) const GET_DELIVERIES: &str = "
SELECT entity, key, seq, event_id, target, rule, writes
FROM crossdock.delivery WHERE target = $1 AND seq > $2 ORDER BY seq LIMIT $3";
