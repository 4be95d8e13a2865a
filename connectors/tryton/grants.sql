-- What Crossdock's login needs in Tryton's database. Run it as the owner of the tables, once the
-- modules are activated:  psql -d tryton -f grants.sql
-- The login itself:       CREATE ROLE crossdock LOGIN REPLICATION PASSWORD '…';
-- Nothing is written to Tryton; it only says which tables' changes are sent, and lets them be read.
GRANT USAGE ON SCHEMA public TO crossdock;

GRANT SELECT ON
    account_invoice, account_invoice_line, carrier, company_company, country_country,
    currency_currency, party_address, party_party, product_list_price, product_product,
    product_template, product_uom, sale_line, sale_sale, stock_location, stock_move, stock_package,
    stock_package_type, stock_shipment_out, stock_shipment_out_return
TO crossdock;

-- Never FOR ALL TABLES: Tryton has a table without a primary key, which could not be updated then.
CREATE PUBLICATION crossdock_tryton FOR TABLE ONLY
    account_invoice, ONLY account_invoice_line, ONLY carrier, ONLY company_company,
    ONLY country_country, ONLY currency_currency, ONLY party_address, ONLY party_party,
    ONLY product_list_price, ONLY product_product, ONLY product_template, ONLY product_uom,
    ONLY sale_line, ONLY sale_sale,
    ONLY stock_location, ONLY stock_move, ONLY stock_package, ONLY stock_package_type,
    ONLY stock_shipment_out, ONLY stock_shipment_out_return
WITH (publish_via_partition_root = true);
