//! Tables that are changed, swapped, renamed, dropped and made anew while their log is read, by
//! the statements that the usual tools issue.

use std::collections::BTreeMap;

use crossdock_capture::{CaptureError, DatabaseKind};
use crossdock_model::Op;

use super::rig::{Rig, Server, on_both, options, server_rows};

on_both!(
    gh_ost_swaps_a_table,
    pt_online_schema_change_swaps_a_table,
    definitions_of_other_things_are_passed_over,
    captured_tables_are_renamed_dropped_and_truncated,
    without_metadata_a_reader_that_is_behind_stops,
);

const ORDERS: &str = "CREATE DATABASE wms; USE wms;
    CREATE TABLE orders(id INT PRIMARY KEY AUTO_INCREMENT, n INT NOT NULL, note VARCHAR(200));
    CREATE TABLE other(id INT PRIMARY KEY, n INT);
    INSERT INTO orders(n, note) VALUES (1, 'a'), (2, 'b'), (3, 'c');";
const LAST: i64 = 9999;

async fn start(kind: DatabaseKind, settings: &str) -> (Server, Rig) {
    let server = Server::start(kind);
    server.sql("", &format!("{settings}; {ORDERS}")).unwrap();
    let mut rig = Rig::open(&options(&server, &["wms.orders"]), None).await;
    rig.snapshot().await;
    (server, rig)
}

/// Writes a last row, reads until it comes, and compares id, n and note of all rows.
async fn agrees(server: &Server, rig: &mut Rig) {
    server.sql("wms", &format!("INSERT INTO orders(id, n) VALUES ({LAST}, 0)")).unwrap();
    rig.until(|rig| rig.images("orders").contains_key(&LAST)).await;
    let names = columns(rig);
    let at = |name: &str| names.iter().position(|column| column == name).unwrap();
    let (n, note) = (at("n"), at("note"));
    let images: BTreeMap<_, _> = rig
        .images("orders")
        .into_iter()
        // Rows that were last seen before the swap have the columns of then.
        .map(|(id, row)| match row.len() == names.len() {
            true => (id, vec![row[0].clone(), row[n].clone(), row[note].clone()]),
            false => (id, row),
        })
        .collect();
    assert_eq!(images, server_rows(server, "SELECT id, n, note FROM orders"));
}

fn columns(rig: &Rig) -> Vec<String> {
    let last = rig.events("orders").last().and_then(|event| event.table.clone()).unwrap();
    last.columns.iter().map(|column| column.name.to_string()).collect()
}

async fn gh_ost_swaps_a_table(kind: DatabaseKind) {
    let (server, mut rig) = start(kind, "").await;
    let script = "
        CREATE /* gh-ost */ TABLE `wms`.`_orders_ghc` (
            id bigint auto_increment, last_update timestamp not null DEFAULT CURRENT_TIMESTAMP,
            hint varchar(64) charset ascii not null, value varchar(4096) charset ascii not null,
            primary key(id), unique key hint_uidx(hint)) auto_increment=256;
        CREATE /* gh-ost */ TABLE `wms`.`_orders_gho` LIKE `wms`.`orders`;
        ALTER /* gh-ost */ TABLE `wms`.`_orders_gho` ADD COLUMN kg DECIMAL(9,3) AFTER n;
        INSERT /* gh-ost */ INTO `wms`.`_orders_ghc` (id, hint, value)
            VALUES (NULLIF(2, 0), 'state', 'GhostTableMigrated')
            ON DUPLICATE KEY UPDATE last_update = NOW(), value = VALUES(value);
        UPDATE orders SET n = 20 WHERE id = 2;
        INSERT /* gh-ost `wms`.`orders` */ IGNORE INTO `wms`.`_orders_gho` (`id`, `n`, `note`)
            (SELECT `id`, `n`, `note` FROM `wms`.`orders` FORCE INDEX (`PRIMARY`)
             WHERE (`id` >= 1 AND `id` <= 3) LOCK IN SHARE MODE);
        INSERT INTO orders(n, note) VALUES (4, 'd'); DELETE FROM orders WHERE id = 1;
        REPLACE /* gh-ost `wms`.`_orders_gho` */ INTO `wms`.`_orders_gho` (`id`, `n`, `note`)
            VALUES (4, 4, 'd');
        DELETE /* gh-ost `wms`.`_orders_gho` */ FROM `wms`.`_orders_gho` WHERE ((`id` = 1));
        CREATE /* gh-ost */ TABLE `wms`.`_orders_del` (id int auto_increment primary key)
            ENGINE=InnoDB COMMENT='ghost-cut-over-sentry';
        DROP /* gh-ost */ TABLE IF EXISTS `wms`.`_orders_del`;
        RENAME /* gh-ost */ TABLE `wms`.`orders` TO `wms`.`_orders_del`,
            `wms`.`_orders_gho` TO `wms`.`orders`;
        UPDATE orders SET kg = 1.5 WHERE id = 3;
        DROP /* gh-ost */ TABLE IF EXISTS `wms`.`_orders_ghc`, `wms`.`_orders_del`;";
    server.sql("wms", script).unwrap();
    agrees(&server, &mut rig).await;
    assert_eq!(columns(&rig), ["id", "n", "kg", "note"]);
    assert!(rig.events("_orders_gho").is_empty());
}

async fn pt_online_schema_change_swaps_a_table(kind: DatabaseKind) {
    let (server, mut rig) = start(kind, "").await;
    let script = "
        CREATE TABLE `wms`.`_orders_new` LIKE `wms`.`orders`;
        ALTER TABLE `wms`.`_orders_new` ADD COLUMN kg DECIMAL(9,3), MODIFY n BIGINT NOT NULL;
        CREATE TRIGGER `pt_osc_wms_orders_del` AFTER DELETE ON `wms`.`orders` FOR EACH ROW
            DELETE IGNORE FROM `wms`.`_orders_new` WHERE `wms`.`_orders_new`.`id` <=> OLD.`id`;
        CREATE TRIGGER `pt_osc_wms_orders_ins` AFTER INSERT ON `wms`.`orders` FOR EACH ROW
            REPLACE INTO `wms`.`_orders_new` (`id`, `n`, `note`)
            VALUES (NEW.`id`, NEW.`n`, NEW.`note`);
        CREATE TRIGGER `pt_osc_wms_orders_upd` AFTER UPDATE ON `wms`.`orders` FOR EACH ROW
            REPLACE INTO `wms`.`_orders_new` (`id`, `n`, `note`)
            VALUES (NEW.`id`, NEW.`n`, NEW.`note`);
        UPDATE orders SET n = 20 WHERE id = 2;
        INSERT LOW_PRIORITY IGNORE INTO `wms`.`_orders_new` (`id`, `n`, `note`)
            SELECT `id`, `n`, `note` FROM `wms`.`orders` LOCK IN SHARE MODE;
        INSERT INTO orders(n, note) VALUES (4, 'd'); DELETE FROM orders WHERE id = 1;
        ANALYZE TABLE `wms`.`_orders_new`;
        RENAME TABLE `wms`.`orders` TO `wms`.`_orders_old`, `wms`.`_orders_new` TO `wms`.`orders`;
        DROP TABLE IF EXISTS `wms`.`_orders_old`;
        DROP TRIGGER IF EXISTS `wms`.`pt_osc_wms_orders_del`;
        UPDATE orders SET n = 5000000000 WHERE id = 3;";
    server.sql("wms", script).unwrap();
    agrees(&server, &mut rig).await;
    assert_eq!(columns(&rig), ["id", "n", "note", "kg"]);
    assert!(rig.events("_orders_new").is_empty());
}

async fn definitions_of_other_things_are_passed_over(kind: DatabaseKind) {
    let (server, mut rig) = start(kind, "").await;
    let script = "
        CREATE PROCEDURE p() SELECT id FROM other FOR UPDATE SKIP LOCKED;
        CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1;
        CREATE EVENT e ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01 00:00:00' DO UPDATE other SET n = 1;
        CREATE TABLE `we``ird; DELETE FROM orders`(a INT, b INT AS (a * 2) VIRTUAL, c JSON,
            CHECK (a > 0)) PARTITION BY HASH (a) PARTITIONS 4;
        ALTER TABLE `we``ird; DELETE FROM orders` COALESCE PARTITION 2;
        CREATE VIEW v AS SELECT * FROM orders; DROP VIEW v;
        /*!50003 CREATE TRIGGER t BEFORE INSERT ON other FOR EACH ROW SET NEW.n = 7 */;
        INSERT INTO other VALUES (1, 1);
        CREATE TABLE copied AS SELECT * FROM orders;
        CREATE TEMPORARY TABLE passing(id INT); INSERT INTO passing VALUES (1);
        DROP TEMPORARY TABLE passing;
        CREATE USER somebody; GRANT SELECT ON wms.orders TO somebody; DROP USER somebody;
        ANALYZE TABLE other; OPTIMIZE TABLE other; TRUNCATE other; CALL p();
        DROP PROCEDURE p; DROP FUNCTION f; DROP EVENT e; DROP TABLE copied;";
    server.sql("wms", script).unwrap();
    agrees(&server, &mut rig).await;
    assert_eq!(rig.fragments.iter().filter(|f| !f.header.snapshot).count(), 1);
}

async fn captured_tables_are_renamed_dropped_and_truncated(kind: DatabaseKind) {
    let (server, mut rig) = start(kind, "").await;
    let script = "
        RENAME TABLE orders TO away; INSERT INTO away(n) VALUES (4); DELETE FROM away WHERE n = 4;
        RENAME TABLE away TO orders; UPDATE orders SET n = 10 WHERE id = 1;
        USE mysql; /* all of */ truncate wms . `orders`; USE wms;
        INSERT INTO orders(n) VALUES (5); TRUNCATE TABLE orders;
        DROP TABLE orders;
        CREATE TABLE orders(id BIGINT PRIMARY KEY, n VARCHAR(10), note TEXT, at DATE);
        INSERT INTO orders VALUES (1, 'one', NULL, '2026-11-23');";
    server.sql("wms", script).unwrap();
    server.sql("wms", &format!("INSERT INTO orders(id, n) VALUES ({LAST}, 'z')")).unwrap();
    rig.until(|rig| rig.images("orders").contains_key(&LAST)).await;
    let ops: Vec<_> = rig.events("orders")[3..].iter().map(|event| event.op).collect();
    let (create, truncate) = (Op::Create, Op::Truncate);
    assert_eq!(ops, [Op::Update, truncate, create, truncate, create, create]);
    assert_eq!(columns(&rig), ["id", "n", "note", "at"]);
    let row = &rig.images("orders")[&1];
    assert_eq!(row[3].as_deref(), Some("2026-11-23"));
}

/// What the log does not say, and the catalog says of another version only, is not guessed.
async fn without_metadata_a_reader_that_is_behind_stops(kind: DatabaseKind) {
    let least = if kind == DatabaseKind::Mysql { "MINIMAL" } else { "NO_LOG" };
    let settings = format!("SET GLOBAL binlog_row_metadata = {least}");
    let (server, mut rig) = start(kind, &settings).await;
    // A reader that keeps up asks the catalog again for each version.
    for (at, change) in ["ADD kg INT", "DROP kg", "ADD kg INT FIRST", "DROP kg"].iter().enumerate()
    {
        server.sql("wms", &format!("ALTER TABLE orders {change}")).unwrap();
        server.sql("wms", "UPDATE orders SET n = n + 1 WHERE id = 1").unwrap();
        rig.until(|rig| rig.events("orders").len() == 4 + at).await;
        assert_eq!(columns(&rig).contains(&"kg".to_string()), at % 2 == 0, "{:?}", columns(&rig));
    }
    let from = rig.durable.clone().unwrap();
    drop(rig);
    let script = "UPDATE orders SET n = n + 1 WHERE id = 1; ALTER TABLE orders ADD kg INT";
    server.sql("wms", script).unwrap();
    let mut rig = Rig::open(&options(&server, &["wms.orders"]), Some(&from)).await;
    let error = rig.error().await;
    assert!(matches!(error, CaptureError::Definite { .. }), "{error:?}");
    assert!(error.to_string().contains("binlog_row_metadata"), "{error}");
}
