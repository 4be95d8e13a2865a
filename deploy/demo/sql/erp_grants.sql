-- What Crossdock needs in the ERP, and nothing more.
-- Reading the log: REPLICATION, and SELECT on the captured tables.
-- The publication: CREATE on the database, and ownership of the published tables, which
-- PostgreSQL grants by membership in the owning role only. Who prefers not to grant that creates
-- the publication by hand and leaves the last two lines out, with INSERT and SELECT on the two
-- target tables instead.
CREATE ROLE crossdock LOGIN REPLICATION PASSWORD 'crossdock-erp';
GRANT CONNECT ON DATABASE erp TO crossdock;
GRANT USAGE ON SCHEMA public TO crossdock;
GRANT SELECT ON customers, products, carriers, sales_orders, sales_order_lines, deliveries
    TO crossdock;
GRANT SELECT, INSERT ON crossdock_inbox, freight_accruals TO crossdock;
GRANT CREATE ON DATABASE erp TO crossdock;      -- publication, and schema crossdock for progress
GRANT erp_owner TO crossdock;
