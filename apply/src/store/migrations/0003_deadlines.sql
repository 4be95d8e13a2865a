-- Moments at which records must be looked at again: how long a state may last, by when it is
-- expected, how long a release may be held.

CREATE TABLE crossdock.deadline (
    id     uuid PRIMARY KEY,
    entity text COLLATE "C" NOT NULL,
    key    text COLLATE "C" NOT NULL,
    rule   text COLLATE "C" NOT NULL,
    due_at timestamptz NOT NULL,
    raised boolean NOT NULL
);
CREATE INDEX deadline_record ON crossdock.deadline (entity, key);
CREATE INDEX deadline_due ON crossdock.deadline (due_at) WHERE NOT raised;
COMMENT ON TABLE crossdock.deadline IS
    'When record (entity, key) must be looked at again. raised: it has passed, and exception id says so.';
