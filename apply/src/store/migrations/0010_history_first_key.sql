-- The first part of the history kept the primary key of the time before it had parts; no other part
-- has one. Nobody asks for a row of it by its number, and each version had to be entered there.

ALTER TABLE IF EXISTS crossdock.history_first DROP CONSTRAINT IF EXISTS history_first_pkey;
