-- What Crossdock's login needs on Vendure's server. Run it as an administrator of the server:
--   mariadb < grants.sql
-- The login itself:  CREATE USER crossdock@'127.0.0.1' IDENTIFIED BY '…';  (put your host there and here)
-- Nothing is written to Vendure. Passwords, sessions and the queue of jobs stay out of reach.
GRANT REPLICATION SLAVE, BINLOG MONITOR, SLAVE MONITOR ON *.* TO crossdock@'127.0.0.1';
GRANT SELECT ON vendure.customer TO crossdock@'127.0.0.1';
GRANT SELECT ON vendure.fulfillment TO crossdock@'127.0.0.1';
GRANT SELECT ON vendure.`order` TO crossdock@'127.0.0.1';
GRANT SELECT ON vendure.order_fulfillments_fulfillment TO crossdock@'127.0.0.1';
GRANT SELECT ON vendure.order_line TO crossdock@'127.0.0.1';
GRANT SELECT ON vendure.order_line_reference TO crossdock@'127.0.0.1';
GRANT SELECT ON vendure.payment TO crossdock@'127.0.0.1';
GRANT SELECT ON vendure.product_variant TO crossdock@'127.0.0.1';
GRANT SELECT ON vendure.product_variant_price TO crossdock@'127.0.0.1';
GRANT SELECT ON vendure.product_variant_translation TO crossdock@'127.0.0.1';
GRANT SELECT ON vendure.refund TO crossdock@'127.0.0.1';
GRANT SELECT ON vendure.stock_level TO crossdock@'127.0.0.1';
GRANT SELECT ON vendure.stock_location TO crossdock@'127.0.0.1';
