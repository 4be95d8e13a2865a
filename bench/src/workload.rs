//! What the servers are filled with: order lines of eleven columns. A backlog is 100,000 rows to
//! begin with, then transactions of 60 inserts, 30 updates and 10 deletes, or one large insert.

/// Row changes in one transaction.
pub const CHANGES: u32 = 100;
/// Rows to begin with.
pub const BASE: u32 = 100_000;

/// Table and first rows, so many, on PostgreSQL.
pub fn postgres_base(base: u32) -> String {
    format!(
        "{}
         INSERT INTO sales.order_line {};
         CREATE PROCEDURE sales.fill(transactions int, first int DEFAULT 0) LANGUAGE plpgsql AS $$
         DECLARE top bigint; low bigint; step bigint;
         BEGIN
           FOR t IN first..first + transactions - 1 LOOP
             top := {base} + 60::bigint * t; low := 10::bigint * t;
             step := (top - low - 100) / 30;
             INSERT INTO sales.order_line {};
             UPDATE sales.order_line SET qty = qty + 1, status = 'picked',
               updated_at = timestamptz '2026-02-01Z' + t * interval '1 s'
               WHERE id = ANY(ARRAY(SELECT low + 50 + k * step + (t * 7919::bigint) % step
                                    FROM generate_series(0, 29) k));
             DELETE FROM sales.order_line WHERE id BETWEEN low + 1 AND low + 10;
             COMMIT;
           END LOOP;
         END $$;",
        postgres_schema(),
        postgres_rows(&format!("generate_series(1, {base})")),
        postgres_rows("generate_series(top + 1, top + 60)"),
    )
}

/// Schema and table on PostgreSQL, empty.
pub fn postgres_schema() -> &'static str {
    "CREATE SCHEMA sales;
     CREATE TABLE sales.order_line(
       id bigint PRIMARY KEY, order_id int NOT NULL, line_no smallint NOT NULL,
       product_id int NOT NULL, qty numeric(12,3) NOT NULL, unit_price numeric(14,4) NOT NULL,
       status text NOT NULL, descr text, created_at timestamptz NOT NULL,
       updated_at timestamptz, attrs jsonb);"
}

/// One transaction that inserts rows on PostgreSQL.
pub fn postgres_transaction(rows: u32) -> String {
    let first = BASE + 1;
    let last = u64::from(BASE) + u64::from(rows);
    let rows = postgres_rows(&format!("generate_series({first}::bigint, {last})"));
    format!("INSERT INTO sales.order_line {rows}")
}

/// Schema and table for a snapshot on PostgreSQL, with so many rows.
pub fn postgres_table(rows: u32) -> String {
    let fill = postgres_transaction(rows);
    format!("{} {fill}; VACUUM ANALYZE sales.order_line; CHECKPOINT", postgres_schema())
}

fn postgres_rows(series: &str) -> String {
    format!(
        "SELECT i, i / 6, i % 6, (i * 7919::bigint) % 50000, (i % 1000) / 8.0 + 1,
           ((i * 31::bigint) % 1000000) / 100.0, 'new',
           'Order line ' || i || ' steel bolt M8 zinc plated DIN 933',
           timestamptz '2026-01-01Z' + i * interval '1 s', NULL,
           jsonb_build_object('wh', i % 20, 'lot', 'L' || i, 'tags', jsonb_build_array('a', 'b'))
         FROM {series} i"
    )
}

/// Which of the two that read a binlog.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// MariaDB, which has numbers as tables.
    Mariadb,
    /// MySQL, which counts.
    Mysql,
}

impl Flavor {
    /// Something to select the numbers `seq` from.
    fn numbers(self, from: u64, to: u64) -> String {
        match self {
            Self::Mariadb => format!("seq_{from}_to_{to}"),
            Self::Mysql => format!(
                "(WITH RECURSIVE n(seq) AS
                    (SELECT {from} UNION ALL SELECT seq + 1 FROM n WHERE seq < {to})
                  SELECT seq FROM n)"
            ),
        }
    }
}

/// Table and first rows on MariaDB or MySQL.
pub fn binlog_base(flavor: Flavor) -> String {
    format!(
        "CREATE DATABASE sales; USE sales;
         CREATE TABLE order_line(
           id bigint PRIMARY KEY, order_id int NOT NULL, line_no smallint NOT NULL,
           product_id int NOT NULL, qty decimal(12,3) NOT NULL, unit_price decimal(14,4) NOT NULL,
           status varchar(20) NOT NULL, descr text, created_at datetime(6) NOT NULL,
           updated_at timestamp(6) NULL, attrs json) DEFAULT CHARSET = utf8mb4;
         INSERT INTO order_line {};
         DELIMITER //
         CREATE PROCEDURE fill(transactions int)
         BEGIN
           DECLARE t int DEFAULT 0; DECLARE top bigint; DECLARE low bigint; DECLARE step bigint;
           WHILE t < transactions DO
             SET top = {BASE} + 60 * t, low = 10 * t; SET step = (top - low - 100) DIV 30;
             START TRANSACTION;
             INSERT INTO order_line {};
             UPDATE order_line o JOIN {} s ON o.id = low + 50 + s.seq * step + (t * 7919) % step
               SET o.qty = o.qty + 1, o.status = 'picked',
                   o.updated_at = '2026-02-01' + INTERVAL t SECOND;
             DELETE FROM order_line WHERE id BETWEEN low + 1 AND low + 10;
             COMMIT;
             SET t = t + 1;
           END WHILE;
         END //
         DELIMITER ;",
        binlog_rows("seq", &flavor.numbers(1, u64::from(BASE))),
        binlog_rows("(top + seq)", &flavor.numbers(1, 60)),
        flavor.numbers(0, 29),
    )
}

/// One transaction that inserts rows on MariaDB or MySQL.
pub fn binlog_transaction(flavor: Flavor, rows: u32) -> String {
    let first = u64::from(BASE) + 1;
    let last = u64::from(BASE) + u64::from(rows);
    format!("INSERT INTO order_line {}", binlog_rows("seq", &flavor.numbers(first, last)))
}

fn binlog_rows(i: &str, series: &str) -> String {
    format!(
        "SELECT {i}, {i} DIV 6, {i} % 6, ({i} * 7919) % 50000, ({i} % 1000) / 8.0 + 1,
           (({i} * 31) % 1000000) / 100.0, 'new',
           CONCAT('Order line ', {i}, ' steel bolt M8 zinc plated DIN 933'),
           '2026-01-01' + INTERVAL {i} SECOND, NULL,
           JSON_OBJECT('wh', {i} % 20, 'lot', CONCAT('L', {i}), 'tags', JSON_ARRAY('a', 'b'))
         FROM {series} numbers"
    )
}
