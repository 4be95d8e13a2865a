-- History of the ERP. n is the order's number; see src/seed.rs for the same formulas in words.
CREATE TEMPORARY TABLE history ON COMMIT DROP AS
SELECT n,
       'SO-' || lpad(n::text, 6, '0') AS order_no,
       CASE WHEN n % 2 = 0 THEN 'EU' ELSE 'US' END AS site,
       CASE WHEN n % 2 = 0 THEN 'SHP-' ELSE 'OB-' END || lpad(n::text, 6, '0') AS shipment_no,
       date '2026-01-05' + n / 40 AS ordered_on,
       CASE WHEN n % 33 = 0 THEN 'cancelled' WHEN n > 2140 THEN 'released' ELSE 'done' END AS state
FROM generate_series(1, 2200) AS n;

INSERT INTO sales_orders
    (order_no, customer_id, ordered_on, requested_on, currency, state, ship_status)
SELECT h.order_no, c.id, h.ordered_on, h.ordered_on + 4,
       CASE WHEN h.site = 'EU' THEN 'EUR' ELSE 'USD' END, h.state,
       CASE h.state WHEN 'done' THEN 'delivered' WHEN 'cancelled' THEN 'cancelled' ELSE 'none' END
FROM history h
JOIN customers c ON c.party_code = 'CUS-' || lpad(((h.n * 7) % 60 + 1)::text, 3, '0')
ORDER BY h.n;

INSERT INTO sales_order_lines (order_id, line_no, product_id, quantity, unit_price, ship_from)
SELECT o.id, l, p.id, (h.n + l * 2) % 9 + 1, p.list_price, h.site
FROM history h
JOIN sales_orders o USING (order_no)
CROSS JOIN generate_series(1, 2) AS l
JOIN products p ON p.sku = 'SKU-' || lpad(((h.n * 3 + l * 5) % 40 + 1)::text, 3, '0')
WHERE l = 1 OR h.n % 3 = 0
ORDER BY h.n, l;

UPDATE sales_orders o SET total = t.total
FROM (SELECT order_id, sum(quantity * unit_price) AS total FROM sales_order_lines
      GROUP BY order_id) t
WHERE t.order_id = o.id;

INSERT INTO deliveries (order_id, site, shipment_no, incoterm, status)
SELECT o.id, h.site, h.shipment_no, (ARRAY['DAP', 'FCA', 'CPT'])[h.n % 3 + 1],
       CASE h.state WHEN 'done' THEN 'delivered' WHEN 'cancelled' THEN 'cancelled' ELSE 'open' END
FROM history h JOIN sales_orders o USING (order_no)
ORDER BY h.n;

INSERT INTO invoices (invoice_no, order_id, amount, currency, state)
SELECT 'INV-' || order_no, id, total, currency, 'paid' FROM sales_orders WHERE state = 'done'
ORDER BY id;

-- Finance accrued freight by hand so far, and is behind.
INSERT INTO freight_accruals (shipment_no, charge_code, cost_version, amount, currency)
SELECT h.shipment_no, 'FRT', 1, (5000 + 13 * h.n) / 100.0,
       CASE WHEN h.site = 'EU' THEN 'EUR' ELSE 'USD' END
FROM history h WHERE h.state = 'done' AND h.n <= 1900
ORDER BY h.n;
