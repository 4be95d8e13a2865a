-- On MySQL, the first copy needs one thing more: tables stand still for the moment in which the
-- place in the binlog and the state of the tables are tied together.
GRANT FLUSH_TABLES ON *.* TO 'crossdock'@'%';
