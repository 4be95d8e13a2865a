-- History of the TMS: delivered orders only, one load each. Times are UTC.
CREATE TEMPORARY TABLE history AS
SELECT seq AS n,
       IF(seq % 2 = 0, 'EU', 'US') AS site,
       CONCAT(IF(seq % 2 = 0, 'SHP-', 'OB-'), LPAD(seq, 6, '0')) AS shipment_no,
       CONCAT(IF(seq % 2 = 0, 'LD-EU-', 'LD-US-'), LPAD(seq, 6, '0')) AS load_no,
       IF(seq % 2 = 0, ELT(seq DIV 2 % 3 + 1, 'DHLF', 'GEOD', 'KNNT'),
                       ELT(seq DIV 2 % 3 + 1, 'SCNN', 'JBHT', 'XPOL')) AS scac,
       IF(seq % 2 = 0, ELT(seq DIV 2 % 3 + 1, '24', '13', 'DEP'), 'AF') AS departed_code,
       IF(seq % 2 = 0, '21', 'D1') AS delivered_code,
       TIMESTAMP('2026-01-05 00:00:00') + INTERVAL (seq DIV 40) DAY AS day
FROM seq_1_to_2140 WHERE seq % 33 <> 0;

INSERT INTO loads (load_no, planned_pickup)
SELECT load_no, day + INTERVAL 2400 MINUTE FROM history ORDER BY n;

INSERT INTO stops (load_id, stop_seq, stop_role, planned_at)
SELECT l.id, s.seq, IF(s.seq = 1, 'pickup', 'delivery'),
       h.day + INTERVAL IF(s.seq = 1, 2400, 5100) MINUTE
FROM history h JOIN loads l USING (load_no) CROSS JOIN seq_1_to_2 s
ORDER BY h.n, s.seq;

-- The trigger on tenders changes loads, so the statement may not read them itself.
CREATE TEMPORARY TABLE offers AS
SELECT l.id AS load_id, c.id AS carrier_id, h.day + INTERVAL 600 MINUTE AS sent_at
FROM history h JOIN loads l USING (load_no) JOIN carriers c USING (scac);
INSERT INTO tenders (load_id, carrier_id, attempt, state, sent_at)
SELECT load_id, carrier_id, 1, 'accepted', sent_at FROM offers ORDER BY load_id;
DROP TEMPORARY TABLE offers;

INSERT INTO shipments (site, shipment_no, load_id, planned_ship)
SELECT h.site, h.shipment_no, l.id, h.day + INTERVAL 2400 MINUTE
FROM history h JOIN loads l USING (load_no)
ORDER BY h.n;

INSERT INTO costs (shipment_id, charge_code, version, amount_minor, currency)
SELECT s.id, 'FRT', 1, 5000 + 13 * h.n, IF(h.site = 'EU', 'EUR', 'USD')
FROM history h JOIN shipments s USING (shipment_no)
ORDER BY h.n;

INSERT INTO milestones (milestone_ref, shipment_id, partner, code, stop_role, event_time)
SELECT CONCAT('MS-', h.shipment_no, '-', IF(m.seq = 1, 'DEP', 'DLV')), s.id, h.scac,
       IF(m.seq = 1, h.departed_code, h.delivered_code), IF(m.seq = 1, 'pickup', 'delivery'),
       h.day + INTERVAL IF(m.seq = 1, 2440, 5100) MINUTE
FROM history h JOIN shipments s USING (shipment_no) CROSS JOIN seq_1_to_2 m
ORDER BY h.n, m.seq;

INSERT INTO outbox (aggregatetype, aggregateid, type, payload)
SELECT 'milestone', m.milestone_ref, 'milestone.reported',
       JSON_OBJECT('site', s.site, 'shipment_no', s.shipment_no, 'load_no', l.load_no,
                   'partner', m.partner, 'code', m.code, 'stop_role', m.stop_role,
                   'event_time', DATE_FORMAT(m.event_time, '%Y-%m-%dT%H:%i:%sZ'))
FROM milestones m JOIN shipments s ON s.id = m.shipment_id JOIN loads l ON l.id = s.load_id
ORDER BY m.id;

DROP TEMPORARY TABLE history;
