-- Evidence in the order in which it was recorded, for those who are told of what has happened.

CREATE INDEX evidence_recorded ON crossdock.evidence (recorded_at, id);
