-- What Crossdock needs in the EU warehouse system: the binlog, SELECT on the captured tables,
-- UPDATE of the one column that it puts back, and its own progress table.
CREATE USER 'crossdock'@'%' IDENTIFIED BY 'crossdock-wms-eu';
GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO 'crossdock'@'%';
GRANT SELECT ON wms.* TO 'crossdock'@'%';
GRANT UPDATE (incoterm) ON wms.shipments TO 'crossdock'@'%';
GRANT CREATE, SELECT, INSERT, UPDATE ON wms.crossdock_progress TO 'crossdock'@'%';
