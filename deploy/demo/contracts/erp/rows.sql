-- One order with everything that belongs to it, and a customer whose name needs care.
INSERT INTO customers (id, party_code, name, credit_limit, city, country, payment_terms) VALUES
    (1, 'C-1', 'Nord AG', 5000.00, 'Hamburg', 'DE', 'NET30'),
    (2, 'C-2', 'Grün & Söhne "Süd"', 0.10, 'Zürich', 'CH', '');
INSERT INTO products (id, sku, description, base_uom, net_weight, list_price) VALUES
    (3, 'SKU-1', 'Pallet jack', 'EA', 1.500, 199.9000);
INSERT INTO carriers (id, scac, name) VALUES (4, 'KNNT', 'Küstenfracht');
INSERT INTO sales_orders (id, order_no, customer_id, ordered_on, requested_on, currency, total, state) VALUES
    (7, 'SO-7', 1, '2026-05-01', NULL, 'EUR', 99.00, 'released');
INSERT INTO sales_order_lines (id, order_id, line_no, product_id, quantity, unit_price, ship_from) VALUES
    (71, 7, 1, 3, 10.250, 9.6585, 'EU');
INSERT INTO deliveries (id, order_id, site, shipment_no, incoterm) VALUES (72, 7, 'EU', 'SHP-7', 'FCA');
