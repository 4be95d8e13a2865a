-- Deliveries that a target has refused, and those that wait behind them.

CREATE TABLE crossdock.target (
    name  text COLLATE "C" PRIMARY KEY,
    again bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE crossdock.target IS
    'One row for each target; whoever changes its parked deliveries locks it. again: the last number given to one that is to be applied after all.';

CREATE TABLE crossdock.parked (
    target     text COLLATE "C" NOT NULL REFERENCES crossdock.target (name),
    seq        bigint NOT NULL REFERENCES crossdock.delivery (seq),
    entity     text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    state      text NOT NULL
        CHECK (state IN ('failed', 'behind', 'again', 'withheld', 'applied', 'discarded')),
    exception  uuid,
    again      bigint,
    attempts   integer NOT NULL DEFAULT 0,
    parked_at  timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target, seq)
);
CREATE INDEX parked_open ON crossdock.parked (target, entity, key, seq)
    WHERE state IN ('failed', 'behind', 'again');
CREATE INDEX parked_exception ON crossdock.parked (exception);
COMMENT ON TABLE crossdock.parked IS
    'Deliveries taken out of their target''s order. failed: refused; behind: waits for an earlier one of its record; again: about to be applied; withheld: a revert too many; applied, discarded: done with.';

CREATE TABLE crossdock.target_progress (
    target     text COLLATE "C" NOT NULL,
    stream     text COLLATE "C" NOT NULL,
    seq        bigint NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target, stream)
);
COMMENT ON TABLE crossdock.target_progress IS
    'How far targets that keep no progress themselves (HTTP) have come.';

CREATE TABLE crossdock.exception_action (
    id        bigserial PRIMARY KEY,
    exception uuid NOT NULL,
    action    text NOT NULL,
    reason    text NOT NULL DEFAULT '',
    by_person text NOT NULL,
    by_login  text NOT NULL DEFAULT session_user,
    at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX exception_action_exception ON crossdock.exception_action (exception);
COMMENT ON TABLE crossdock.exception_action IS 'Who did what about an exception, and why.';

ALTER TABLE crossdock.delivery
    ADD COLUMN reverts text,
    ADD COLUMN hops smallint NOT NULL DEFAULT 0;
CREATE INDEX delivery_revert ON crossdock.delivery (target, entity, key, seq)
    WHERE reverts IS NOT NULL;

CREATE TABLE crossdock.lane_layout (
    target   text COLLATE "C" NOT NULL REFERENCES crossdock.target (name),
    from_seq bigint NOT NULL,
    lanes    jsonb NOT NULL,
    PRIMARY KEY (target, from_seq)
);
COMMENT ON TABLE crossdock.lane_layout IS
    'Which rules'' deliveries go through which lane of a target: one layout for all deliveries after from_seq, up to the next layout.';
