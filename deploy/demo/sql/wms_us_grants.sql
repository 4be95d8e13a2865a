-- What Crossdock needs in the US warehouse system. See erp_grants.sql for why membership in the
-- owning role is there. UPDATE of one column only: the terms, which it puts back when the
-- warehouse has changed what the ERP decides.
CREATE ROLE crossdock LOGIN REPLICATION PASSWORD 'crossdock-wms-us';
GRANT CONNECT ON DATABASE wms_us TO crossdock;
GRANT USAGE ON SCHEMA wms TO crossdock;
GRANT SELECT ON ALL TABLES IN SCHEMA wms TO crossdock;
GRANT UPDATE (freight_terms) ON wms.shipment_header TO crossdock;
GRANT CREATE ON DATABASE wms_us TO crossdock;   -- publication, and schema crossdock for progress
GRANT wms_owner TO crossdock;
