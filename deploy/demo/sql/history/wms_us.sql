-- History of the US warehouse: the odd orders. Packed above 2170, not begun above 2140.
CREATE TEMPORARY TABLE history ON COMMIT DROP AS
SELECT n,
       'SO-' || lpad(n::text, 6, '0') AS order_no,
       'OB-' || lpad(n::text, 6, '0') AS shipment_nbr,
       timestamptz '2026-01-06 00:00:00+00' + n / 40 * interval '1 day' AS work_day,
       CASE WHEN n % 33 = 0 THEN 99 WHEN n > 2170 THEN 50 WHEN n > 2140 THEN 10 ELSE 90 END AS status
FROM generate_series(1, 2199, 2) AS n;

INSERT INTO wms.outbound_order (customer_order, ship_to_code, order_status)
SELECT order_no, 'CUS-' || lpad(((n * 7) % 60 + 1)::text, 3, '0'),
       CASE status WHEN 90 THEN 90 WHEN 99 THEN 99 ELSE 20 END
FROM history ORDER BY n;

INSERT INTO wms.outbound_order_line (outbound_id, line_nbr, item_id, qty_requested, qty_shipped)
SELECT o.outbound_id, l, i.item_id, (h.n + l * 2) % 9 + 1,
       CASE h.status WHEN 90 THEN (h.n + l * 2) % 9 + 1 END
FROM history h
JOIN wms.outbound_order o ON o.customer_order = h.order_no
CROSS JOIN generate_series(1, 2) AS l
JOIN wms.item_master i ON i.item_nbr = 'SKU-' || lpad(((h.n * 3 + l * 5) % 40 + 1)::text, 3, '0')
WHERE l = 1 OR h.n % 3 = 0
ORDER BY h.n, l;

INSERT INTO wms.shipment_header
    (shipment_nbr, outbound_id, ship_status, freight_terms, gross_weight, packed_ts, loaded_ts,
     ship_confirm_ts)
SELECT h.shipment_nbr, o.outbound_id, h.status, (ARRAY['DAP', 'FCA', 'CPT'])[h.n % 3 + 1],
       CASE WHEN h.status IN (50, 90) THEN 10 + h.n % 50 END,
       CASE WHEN h.status IN (50, 90) THEN h.work_day + interval '09:30' END,
       CASE h.status WHEN 90 THEN h.work_day + interval '15:00' END,
       CASE h.status WHEN 90 THEN h.work_day + interval '16:35' END
FROM history h JOIN wms.outbound_order o ON o.customer_order = h.order_no
ORDER BY h.n;

INSERT INTO wms.pick_confirm (task_nbr, line_id, shipment_id, qty_task, qty_confirmed, confirm_ts)
SELECT h.order_no || '/' || l.line_nbr, l.line_id, s.shipment_id, l.qty_requested,
       l.qty_requested, h.work_day + interval '08:00'
FROM history h
JOIN wms.shipment_header s USING (shipment_nbr)
JOIN wms.outbound_order_line l USING (outbound_id)
WHERE h.status IN (50, 90)
ORDER BY h.n, l.line_nbr;
