-- History by month, so that what is old can be dropped at once. What is there already stays one
-- part, up to the end of this month.

ALTER TABLE crossdock.history RENAME TO history_first;
ALTER TABLE crossdock.history_first RENAME CONSTRAINT history_pkey TO history_first_pkey;
ALTER INDEX crossdock.history_record RENAME TO history_first_record;

-- Without a primary key: rows are only ever added, and nobody asks for one by its number.
CREATE TABLE crossdock.history (LIKE crossdock.history_first INCLUDING DEFAULTS) PARTITION BY RANGE (at);
ALTER SEQUENCE crossdock.history_id_seq OWNED BY crossdock.history.id;
CREATE INDEX history_record ON crossdock.history (entity, key, version);
COMMENT ON TABLE crossdock.history IS
    'Every version of every record: changes is {field: [old, new]}; why, from where, under which rules. One part a month, by when it was written.';

DO $$
BEGIN
    EXECUTE format(
        'ALTER TABLE crossdock.history ATTACH PARTITION crossdock.history_first
             FOR VALUES FROM (MINVALUE) TO (%L)',
        (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'
    );
END
$$;

-- Makes the parts for this month and the three after it that are not there yet.
CREATE FUNCTION crossdock.make_history_parts() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    month timestamp;
    made  integer := 0;
BEGIN
    FOR n IN 0..3 LOOP
        month := date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month';
        -- The first part may reach into this month.
        CONTINUE WHEN EXISTS (
            SELECT FROM crossdock.history_parts() p WHERE p.upto > month AT TIME ZONE 'UTC'
                AND (p.since IS NULL OR p.since <= month AT TIME ZONE 'UTC')
        );
        EXECUTE format(
            'CREATE TABLE crossdock.%I PARTITION OF crossdock.history FOR VALUES FROM (%L) TO (%L)',
            'history_' || to_char(month, 'YYYY_MM'),
            month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC'
        );
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

-- The parts of the history: since is null for the first.
CREATE FUNCTION crossdock.history_parts()
RETURNS TABLE (part name, since timestamptz, upto timestamptz) LANGUAGE sql STABLE AS $$
    SELECT c.relname,
           nullif(substring(b.bound FROM 'FROM \(''?([^'')]*)'), 'MINVALUE')::timestamptz,
           substring(b.bound FROM 'TO \(''([^'']*)''')::timestamptz
    FROM pg_catalog.pg_inherits i
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bound) b
    WHERE i.inhparent = 'crossdock.history'::regclass
$$;

-- Drops the parts in which everything is older than that; gives how many.
CREATE FUNCTION crossdock.drop_history(older_than interval) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    old     record;
    dropped integer := 0;
BEGIN
    FOR old IN SELECT part FROM crossdock.history_parts() WHERE upto <= now() - older_than LOOP
        EXECUTE format('DROP TABLE crossdock.%I', old.part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;
