-- Times come with their zones. The truck has left, a short shipment is on it.
INSERT INTO wms.item_master (item_id, item_nbr, item_desc) VALUES (1, 'SKU-1', 'Pallet jack');
INSERT INTO wms.facility_inventory (inventory_id, item_id, qty_on_hand, qty_allocated) VALUES (2, 1, 100.000, 5.000);
INSERT INTO wms.outbound_order (outbound_id, customer_order, ship_to_code) VALUES (9, 'SO-7', 'C-1');
INSERT INTO wms.outbound_order_line (line_id, outbound_id, line_nbr, item_id, qty_requested, qty_shipped) VALUES
    (91, 9, 2, 1, 5.000, 4.000);
INSERT INTO wms.shipment_header (shipment_id, shipment_nbr, outbound_id, ship_status, freight_terms, gross_weight, packed_ts,
                                 loaded_ts, ship_confirm_ts) VALUES
    (92, 'OB-7', 9, 90, 'FCA', 12.500, '2026-05-01 03:00:00-05', '2026-05-01 09:00:00+00', '2026-05-01 12:00:00+02'),
    (93, 'OB-8', 9, 10, 'DAP', NULL, NULL, NULL, NULL);
INSERT INTO wms.pick_confirm (confirm_id, task_nbr, line_id, shipment_id, qty_task, qty_confirmed, confirm_ts) VALUES
    (94, 'T-1', 91, 92, 5.000, 4.000, '2026-05-01 07:00:00+00');
