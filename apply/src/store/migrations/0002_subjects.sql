-- Subjects of the schema registry.

CREATE TABLE crossdock.subject_version (
    subject       text COLLATE "C" NOT NULL,
    version       integer NOT NULL CHECK (version > 0),
    id            integer NOT NULL CHECK (id > 0),
    schema        text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (subject, version)
);
COMMENT ON TABLE crossdock.subject_version IS
    'Versions of the schemas of records, and of what others have registered. Equal schemas have equal ids.';

CREATE TABLE crossdock.subject_level (
    subject text COLLATE "C" PRIMARY KEY,
    level   text NOT NULL
);
COMMENT ON TABLE crossdock.subject_level IS
    'Which changes of a subject''s schema are allowed; the empty name stands for all others.';
