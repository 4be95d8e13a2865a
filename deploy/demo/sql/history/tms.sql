-- History of the TMS: delivered orders only, one load each. Times are UTC.
-- MySQL has no sequence tables, and can't name a temporary table twice in one statement.
CREATE TABLE digits (d INT PRIMARY KEY);
INSERT INTO digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9);

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
FROM (SELECT a.d * 1000 + b.d * 100 + c.d * 10 + e.d AS seq
      FROM digits a CROSS JOIN digits b CROSS JOIN digits c CROSS JOIN digits e) numbers
WHERE seq BETWEEN 1 AND 2140 AND seq % 33 <> 0;

INSERT INTO loads (load_no, planned_pickup)
SELECT load_no, day + INTERVAL 2400 MINUTE FROM history ORDER BY n;

INSERT INTO stops (load_id, stop_seq, stop_role, planned_at)
SELECT l.id, s.d, IF(s.d = 1, 'pickup', 'delivery'),
       h.day + INTERVAL IF(s.d = 1, 2400, 5100) MINUTE
FROM history h JOIN loads l USING (load_no) JOIN digits s ON s.d IN (1, 2)
ORDER BY h.n, s.d;

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
SELECT CONCAT('MS-', h.shipment_no, '-', IF(m.d = 1, 'DEP', 'DLV')), s.id, h.scac,
       IF(m.d = 1, h.departed_code, h.delivered_code), IF(m.d = 1, 'pickup', 'delivery'),
       h.day + INTERVAL IF(m.d = 1, 2440, 5100) MINUTE
FROM history h JOIN shipments s USING (shipment_no) JOIN digits m ON m.d IN (1, 2)
ORDER BY h.n, m.d;

INSERT INTO outbox (aggregatetype, aggregateid, type, payload)
SELECT 'milestone', m.milestone_ref, 'milestone.reported',
       JSON_OBJECT('site', s.site, 'shipment_no', s.shipment_no, 'load_no', l.load_no,
                   'partner', m.partner, 'code', m.code, 'stop_role', m.stop_role,
                   'event_time', DATE_FORMAT(m.event_time, '%Y-%m-%dT%H:%i:%sZ'))
FROM milestones m JOIN shipments s ON s.id = m.shipment_id JOIN loads l ON l.id = s.load_id
ORDER BY m.id;

DROP TEMPORARY TABLE history;
DROP TABLE digits;
