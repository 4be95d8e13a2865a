-- A load that a carrier has accepted, a cost in cents and one that is not known yet; milestones in
-- the outbox, one in a code that nobody knows, and an event of another kind.
INSERT INTO carriers (id, scac, name, region) VALUES (1, 'KNNT', 'Küstenfracht', 'EU');
INSERT INTO loads (id, load_no, planned_pickup) VALUES (11, 'LD-7', '2026-05-01 09:00:00'), (21, 'LD-8', NULL);
INSERT INTO tenders (id, load_id, carrier_id, sent_at) VALUES (1, 11, 1, '2026-04-30 08:00:00');
UPDATE tenders SET state = 'accepted' WHERE id = 1;
INSERT INTO shipments (id, site, shipment_no, load_id, planned_ship) VALUES
    (12, 'EU', 'SHP-7', 11, '2026-05-01 10:00:00.250'), (22, 'US', 'OB-8', 21, NULL);
INSERT INTO costs (id, shipment_id, charge_code, version, amount_minor, currency) VALUES
    (13, 12, 'FRT', 1, 12345, 'EUR'), (14, 12, 'FUEL', 2, NULL, 'EUR');
INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) VALUES
    (15, 'milestone', 'M-1', 'shipment.milestone', '{"site": "EU", "shipment_no": "SHP-7", "load_no": "LD-7", "partner": "KNNT", "code": "24", "stop_role": "pickup", "event_time": "2026-05-01T12:30:00+02:00"}'),
    (16, 'milestone', 'M-2', 'shipment.milestone', '{"site": "EU", "shipment_no": "SHP-7", "load_no": "LD-7", "partner": "KNNT", "code": "ZZ", "stop_role": "pickup", "event_time": "2026-05-01T13:00:00Z"}'),
    (17, 'tender', 'T-1', 'tender.accepted', '{"load_no": "LD-7"}');
