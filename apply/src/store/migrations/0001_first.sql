-- The canonical store. Everything that Crossdock knows is here and can be queried with SQL.
-- Tables whose rows are updated in place leave room on their pages, so that indexes stay untouched.
-- Times with zone throughout; places in a source's log are texts that sort as the log does.

CREATE TABLE crossdock.meta (
    one            boolean PRIMARY KEY DEFAULT true CHECK (one),
    schema_version integer NOT NULL,
    epoch          bigint  NOT NULL DEFAULT 0,
    delivery_seq   bigint  NOT NULL DEFAULT 0,
    installation   text    NOT NULL,
    opened_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE crossdock.meta IS
    'One row: schema version, fencing epoch of the writer, number of the last delivery.';

-- First statement of every commit. Only the crossdock that opened the store last gets past it,
-- and it waits for a commit of the one before to end.
CREATE FUNCTION crossdock.fence(mine bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    current bigint;
BEGIN
    SELECT epoch INTO current FROM crossdock.meta FOR UPDATE;
    IF current IS DISTINCT FROM mine THEN
        RAISE EXCEPTION 'epoch % has been superseded by %', mine, current USING ERRCODE = 'CD001';
    END IF;
END
$$;

CREATE TABLE crossdock.record (
    entity     text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    version    bigint NOT NULL,
    deleted    boolean NOT NULL,
    fields     jsonb NOT NULL,
    origins    jsonb NOT NULL,
    links      jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (entity, key)
) WITH (fillfactor = 85);
COMMENT ON TABLE crossdock.record IS
    'Canonical records. fields: values (decimals and times as text); origins: who owns each value.';

CREATE TABLE crossdock.link (
    entity    text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    to_entity text COLLATE "C" NOT NULL,
    to_key    text COLLATE "C" NOT NULL,
    PRIMARY KEY (entity, key, name)
);
CREATE INDEX link_to ON crossdock.link (to_entity, to_key);
COMMENT ON TABLE crossdock.link IS 'Record (entity, key) names record (to_entity, to_key).';

CREATE TABLE crossdock.source_row (
    source      text COLLATE "C" NOT NULL,
    table_name  text COLLATE "C" NOT NULL,
    pk          text COLLATE "C" NOT NULL,
    image       bytea NOT NULL,
    at_order    text COLLATE "C" NOT NULL,
    deleted     boolean NOT NULL,
    waiting_for jsonb NOT NULL DEFAULT '[]',
    refers_to   jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (source, table_name, pk)
) WITH (fillfactor = 85);
COMMENT ON TABLE crossdock.source_row IS
    'Last image seen of each source row, with exact types. waiting_for: rows it is parked on; refers_to: all rows its mapping looks at.';

CREATE TABLE crossdock.row_reference (
    source        text COLLATE "C" NOT NULL,
    table_name    text COLLATE "C" NOT NULL,
    pk            text COLLATE "C" NOT NULL,
    on_source     text COLLATE "C" NOT NULL,
    on_table_name text COLLATE "C" NOT NULL,
    on_pk         text COLLATE "C" NOT NULL,
    PRIMARY KEY (on_source, on_table_name, on_pk, source, table_name, pk)
);
CREATE INDEX row_reference_row ON crossdock.row_reference (source, table_name, pk);
COMMENT ON TABLE crossdock.row_reference IS
    'The mapping of row (source, table_name, pk) looks at row (on_...).';

CREATE TABLE crossdock.contribution (
    entity     text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    source     text COLLATE "C" NOT NULL,
    table_name text COLLATE "C" NOT NULL,
    pk         text COLLATE "C" NOT NULL,
    fields     bytea NOT NULL,
    links      jsonb NOT NULL,
    at_order   text COLLATE "C" NOT NULL,
    PRIMARY KEY (entity, key, source, table_name, pk)
) WITH (fillfactor = 85);
COMMENT ON TABLE crossdock.contribution IS
    'What each source row says about a record, after mapping, with exact types.';

CREATE TABLE crossdock.evidence (
    id          uuid PRIMARY KEY,
    entity      text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    kind        text NOT NULL,
    event_time  timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    source      text COLLATE "C" NOT NULL,
    table_name  text COLLATE "C" NOT NULL,
    pk          text COLLATE "C" NOT NULL,
    authority   integer NOT NULL,
    at_order    text COLLATE "C" NOT NULL,
    withdrawn   boolean NOT NULL,
    data        jsonb NOT NULL
);
CREATE INDEX evidence_record ON crossdock.evidence (entity, key);
COMMENT ON TABLE crossdock.evidence IS
    'Facts reported about records. State is computed from the set of those not withdrawn.';

CREATE TABLE crossdock.history (
    id           bigserial PRIMARY KEY,
    entity       text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,
    version      bigint NOT NULL,
    source       text NOT NULL,
    transaction  text NOT NULL,
    position     text NOT NULL,
    committed_at timestamptz NOT NULL,
    ruleset      text NOT NULL,
    changes      jsonb NOT NULL,
    at           timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX history_record ON crossdock.history (entity, key, version);
COMMENT ON TABLE crossdock.history IS
    'Every version of every record: changes is {field: [old, new]}; why, from where, under which rules.';

CREATE TABLE crossdock.exception (
    id       uuid PRIMARY KEY,
    kind     text NOT NULL,
    entity   text COLLATE "C",
    key      text COLLATE "C",
    source   text NOT NULL,
    rule     text NOT NULL,
    team     text NOT NULL,
    text     text NOT NULL,
    context  jsonb NOT NULL,
    count    bigint NOT NULL,
    open     boolean NOT NULL,
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX exception_record ON crossdock.exception (entity, key);
CREATE INDEX exception_open ON crossdock.exception (kind) WHERE open;
COMMENT ON TABLE crossdock.exception IS
    'What a person must look at. A repetition of one cause counts up and opens it again.';

CREATE TABLE crossdock.release (
    rule         text COLLATE "C" NOT NULL,
    business_key text COLLATE "C" NOT NULL,
    entity       text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,
    unmet        text[] NOT NULL,
    depends      jsonb NOT NULL,
    released     boolean NOT NULL,
    since        timestamptz NOT NULL DEFAULT now(),
    released_at  timestamptz,
    PRIMARY KEY (rule, business_key)
);
CREATE INDEX release_record ON crossdock.release (entity, key);
CREATE INDEX release_held ON crossdock.release (rule) WHERE NOT released;
COMMENT ON TABLE crossdock.release IS
    'What release rules hold back (released = false, unmet = what is missing) or have let go.';

CREATE TABLE crossdock.release_depends (
    rule         text COLLATE "C" NOT NULL,
    business_key text COLLATE "C" NOT NULL,
    entity       text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,
    PRIMARY KEY (entity, key, rule, business_key)
);
CREATE INDEX release_depends_release ON crossdock.release_depends (rule, business_key);
COMMENT ON TABLE crossdock.release_depends IS 'A change of record (entity, key) may end this hold.';

CREATE TABLE crossdock.delivery (
    seq      bigint PRIMARY KEY,
    event_id uuid NOT NULL UNIQUE,
    target   text COLLATE "C" NOT NULL,
    rule     text NOT NULL,
    entity   text COLLATE "C" NOT NULL,
    key      text COLLATE "C" NOT NULL,
    writes   jsonb NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX delivery_target ON crossdock.delivery (target, seq);
CREATE INDEX delivery_at ON crossdock.delivery (at);
COMMENT ON TABLE crossdock.delivery IS
    'What is owed to targets, numbered in commit order; each target keeps how far it has come.';

CREATE TABLE crossdock.progress (
    stage        text COLLATE "C" NOT NULL,
    source       text COLLATE "C" NOT NULL,
    seq          bigint NOT NULL,
    high_seq     bigint NOT NULL,
    position     text NOT NULL,
    committed_at timestamptz NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stage, source)
);
COMMENT ON TABLE crossdock.progress IS
    'How far each stage has come with each source. high_seq: the furthest ever, also after a rewind.';

CREATE TABLE crossdock.rewind (
    id       bigserial PRIMARY KEY,
    stage    text NOT NULL,
    source   text NOT NULL,
    from_seq bigint NOT NULL,
    to_seq   bigint NOT NULL,
    by_login text NOT NULL DEFAULT session_user,
    at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE crossdock.rewind IS 'Every time somebody set progress back.';

CREATE VIEW crossdock.v_open_exceptions AS
SELECT kind, entity, key, source, rule, nullif(team, '') AS team, text, count, first_at, last_at,
       context, id
FROM crossdock.exception
WHERE open
ORDER BY last_at DESC;
COMMENT ON VIEW crossdock.v_open_exceptions IS 'Exceptions that nobody has closed, latest first.';

CREATE VIEW crossdock.v_holds AS
SELECT rule, business_key, entity, key, array_to_string(unmet, ', ') AS waiting_for, since,
       now() - since AS age
FROM crossdock.release
WHERE NOT released
ORDER BY since;
COMMENT ON VIEW crossdock.v_holds IS 'What is held back, and what it waits for; oldest first.';
