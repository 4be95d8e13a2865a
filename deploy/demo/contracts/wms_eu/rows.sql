-- Hamburg's clock: the pick is an hour before summer time begins, the packing after it, the loading
-- in winter. The scanner has sent the pick twice.
INSERT INTO customers VALUES ('C-1', 'Nord AG', 5000.00, 'Hamburg', 'DE');
INSERT INTO articles VALUES ('SKU-1', 'Pallet jack', 'EA');
INSERT INTO stock VALUES ('SKU-1', 100.000, 5.000);
INSERT INTO orders VALUES ('SO-7', 'C-1', 'WAVED');
INSERT INTO order_lines VALUES ('SO-7/1', 'SO-7', 1, 'SKU-1', 5.000, 4.000);
INSERT INTO shipments (shipment_no, order_ref, status, incoterm, gross_weight, confirmed_at, loaded_at) VALUES
    ('SHP-7', 'SO-7', 'LOADED', 'FCA', 12.500, '2026-03-29 10:00:00.500', '2026-12-01 07:15:00'),
    ('SHP-8', 'SO-7', 'OPEN', 'DAP', NULL, NULL, NULL);
INSERT INTO picks (pick_id, task_no, line_ref, shipment_no, qty_task, qty, picked_at) VALUES
    ('P-1', 'T-1', 'SO-7/1', 'SHP-7', 5.000, 4.000, '2026-03-29 01:30:00');
INSERT INTO picks (pick_id, task_no, line_ref, shipment_no, qty_task, qty, picked_at) VALUES
    ('P-2', 'T-1', 'SO-7/1', 'SHP-7', 5.000, 4.000, '2026-03-29 01:30:00');
