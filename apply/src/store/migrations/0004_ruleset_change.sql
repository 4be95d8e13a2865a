-- Which rules were in force since when, and who put them there.

CREATE TABLE crossdock.ruleset_change (
    id        bigserial PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT now(),
    by_whom   text NOT NULL,
    by_login  text NOT NULL DEFAULT session_user,
    old_hash  text,
    new_hash  text,
    accepted  boolean NOT NULL,
    problems  text
);
COMMENT ON TABLE crossdock.ruleset_change IS
    'Every set of rule files that was put in force (accepted), or refused, with its content hash.';

CREATE VIEW crossdock.v_ruleset AS
SELECT new_hash AS hash, by_whom, at AS since
FROM crossdock.ruleset_change
WHERE accepted
ORDER BY id DESC
LIMIT 1;
COMMENT ON VIEW crossdock.v_ruleset IS 'The rules in force.';
