-- What Crossdock needs in the TMS: the binlog and SELECT on the captured tables. It writes
-- nothing here.
CREATE USER 'crossdock'@'%' IDENTIFIED BY 'crossdock-tms';
GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO 'crossdock'@'%';
GRANT SELECT ON tms.* TO 'crossdock'@'%';
