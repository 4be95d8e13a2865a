-- What Crossdock needs in the TMS: the binlog and SELECT on the captured tables. It writes
-- nothing here.
CREATE USER 'crossdock'@'%' IDENTIFIED BY 'crossdock-tms';
-- (On MariaDB, REPLICATION CLIENT is another name of BINLOG MONITOR.)
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'crossdock'@'%';
GRANT SELECT ON tms.* TO 'crossdock'@'%';
