-- History of the EU warehouse: the even orders. Times are those of a winter in Hamburg, one hour
-- ahead of UTC. Packed above 2170, not begun above 2140.
CREATE TEMPORARY TABLE history AS
SELECT seq AS n,
       CONCAT('SO-', LPAD(seq, 6, '0')) AS order_ref,
       CONCAT('SHP-', LPAD(seq, 6, '0')) AS shipment_no,
       TIMESTAMP('2026-01-06 01:00:00') + INTERVAL (seq DIV 40) DAY AS work_day,
       CASE WHEN seq % 33 = 0 THEN 'CANCELLED' WHEN seq > 2170 THEN 'CONFIRMED'
            WHEN seq > 2140 THEN 'OPEN' ELSE 'LOADED' END AS status
FROM seq_2_to_2200_step_2;

INSERT INTO orders (order_ref, party_code, status)
SELECT order_ref, CONCAT('CUS-', LPAD((n * 7) % 60 + 1, 3, '0')),
       CASE status WHEN 'LOADED' THEN 'DONE' WHEN 'CANCELLED' THEN 'CANCELLED' ELSE 'WAVED' END
FROM history ORDER BY n;

INSERT INTO order_lines (line_ref, order_ref, line_no, sku, qty, qty_shipped)
SELECT CONCAT(h.order_ref, '-', l.seq), h.order_ref, l.seq,
       CONCAT('SKU-', LPAD((h.n * 3 + l.seq * 5) % 40 + 1, 3, '0')),
       (h.n + l.seq * 2) % 9 + 1,
       CASE WHEN h.status IN ('LOADED', 'CONFIRMED') THEN (h.n + l.seq * 2) % 9 + 1 END
FROM history h CROSS JOIN seq_1_to_2 l
WHERE l.seq = 1 OR h.n % 3 = 0
ORDER BY h.n, l.seq;

INSERT INTO shipments
    (shipment_no, order_ref, status, incoterm, gross_weight, confirmed_at, loaded_at)
SELECT shipment_no, order_ref, status, ELT(n % 3 + 1, 'DAP', 'FCA', 'CPT'),
       CASE WHEN status IN ('LOADED', 'CONFIRMED') THEN 10 + n % 50 END,
       CASE WHEN status IN ('LOADED', 'CONFIRMED') THEN work_day + INTERVAL 570 MINUTE END,
       CASE status WHEN 'LOADED' THEN work_day + INTERVAL 900 MINUTE END
FROM history ORDER BY n;

INSERT INTO picks (pick_id, task_no, line_ref, shipment_no, qty_task, qty, picked_at)
SELECT CONCAT('PK-', l.line_ref, '-1'), CONCAT('T-', l.line_ref), l.line_ref, h.shipment_no,
       l.qty, l.qty, h.work_day + INTERVAL 480 MINUTE
FROM history h JOIN order_lines l ON l.order_ref = h.order_ref
WHERE h.status IN ('LOADED', 'CONFIRMED')
ORDER BY h.n, l.line_no;

DROP TEMPORARY TABLE history;
