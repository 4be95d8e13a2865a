//! A first config out of a live database: what `crossdock init` writes passes `crossdock check`,
//! and its records are there once it runs.

use std::fs;
use std::process::{Command, Output};

use crossdock_harness::{DaemonOptions, MariaDb, MySql, Postgres, free_port};
use crossdock_tests::{Crossdock, binary};

use crate::world::LIMIT;

/// As a shop of its own would have it: `{id}` is how the kind of database counts.
const SCHEMA: &str = "
CREATE TABLE customers (id {id}, code varchar(20) NOT NULL UNIQUE, name varchar(80) NOT NULL,
    city varchar(40), credit_limit decimal(12,2));
CREATE TABLE articles (id {id}, sku varchar(20) NOT NULL UNIQUE, description varchar(80),
    price decimal(12,4), unit varchar(3));
CREATE TABLE orders (id {id}, number varchar(20) NOT NULL, state varchar(12) NOT NULL,
    currency char(3), customer_id int NOT NULL, CONSTRAINT of_customer FOREIGN KEY (customer_id)
    REFERENCES customers (id));
CREATE TABLE order_lines (id {id}, order_id int NOT NULL, line_no int NOT NULL,
    quantity decimal(12,3) NOT NULL, article_id int NOT NULL,
    CONSTRAINT of_order FOREIGN KEY (order_id) REFERENCES orders (id),
    CONSTRAINT of_article FOREIGN KEY (article_id) REFERENCES articles (id));
CREATE TABLE shipments (id {id}, number varchar(20) NOT NULL, status varchar(12),
    order_id int NOT NULL, CONSTRAINT ships FOREIGN KEY (order_id) REFERENCES orders (id));
CREATE TABLE sessions (token varchar(40) PRIMARY KEY, seen {time});
INSERT INTO customers VALUES (1, 'C-1', 'Berta GmbH', 'Hamburg', 5000);
INSERT INTO articles VALUES (7, 'A-7', 'Bolt', 0.5, 'EA');
INSERT INTO orders VALUES (3, 'SO-3', 'open', 'EUR', 1);
INSERT INTO order_lines VALUES (5, 3, 1, 12, 7);
INSERT INTO shipments VALUES (9, 'SHP-9', 'open', 3);
";

fn schema(id: &str, time: &str) -> String {
    SCHEMA.replace("{id}", id).replace("{time}", time)
}

fn run(words: &[&str]) -> Output {
    let mut command = Command::new(binary().unwrap());
    command.args(words).envs([("SHOP_PASSWORD", "pw"), ("STORE_PASSWORD", "pw")]);
    command.output().unwrap()
}

/// Makes a config for a database `shop`, checks it, runs it, and looks at the records.
fn begins(kind: &str, port: u16) {
    let store = Postgres::start().unwrap();
    store.sql("postgres", "CREATE ROLE crossdock LOGIN PASSWORD 'pw'").unwrap();
    store.sql("postgres", "CREATE DATABASE canonical OWNER crossdock").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    let url = format!("{kind}://crossdock@127.0.0.1:{port}/shop");
    let store_url = format!("postgres://crossdock@127.0.0.1:{}/canonical", store.port());
    let words = ["init", "--url", &url, "--store-url", &store_url, "--dir", &dir];
    let made = run(&words);
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success(), "{said}{}", String::from_utf8_lossy(&made.stderr));
    assert!(said.contains("5 of 6 tables recognised"), "{said}");
    let mapping = fs::read_to_string(folder.path().join("mappings/shop.toml")).unwrap();
    assert!(mapping.contains("sessions: not recognised"), "{mapping}");
    assert!(!mapping.contains("pw"), "no password is written");

    // A second time nothing is overwritten.
    let again = run(&words);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && said.contains("exists already"), "{said}");
    assert_eq!(fs::read_to_string(folder.path().join("mappings/shop.toml")).unwrap(), mapping);

    let config = folder.path().join("crossdock.toml");
    let port = free_port().unwrap();
    let text = fs::read_to_string(&config).unwrap();
    let listen = format!("[crossdock]\nlisten = \"127.0.0.1:{port}\"");
    fs::write(&config, text.replacen("[crossdock]", &listen, 1)).unwrap();
    let env = ["SHOP_PASSWORD", "STORE_PASSWORD"].map(|name| (name.to_string(), "pw".to_string()));
    let mut crossdock = Crossdock::new(&config, &env, port, folder.path());
    let checked = crossdock.run(&["check"]).unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(0), "{said}\n{mapping}");
    crossdock.start().unwrap();
    crossdock.wait_caught_up(LIMIT).unwrap();
    let records = "SELECT string_agg(key, ' ' ORDER BY key) FROM crossdock.record";
    let records = store.sql("canonical", records).unwrap();
    assert_eq!(records.trim(), "cus:C-1 oln:SO-3:1 ord:SO-3 prd:A-7 shp:MAIN:SHP-9", "{mapping}");
    let links = "SELECT string_agg(key || '>' || to_key, ' ' ORDER BY key, to_key)
                 FROM crossdock.link";
    let links = store.sql("canonical", links).unwrap();
    let expected =
        "oln:SO-3:1>ord:SO-3 oln:SO-3:1>prd:A-7 ord:SO-3>cus:C-1 shp:MAIN:SHP-9>ord:SO-3";
    assert_eq!(links.trim(), expected, "{mapping}");
    let fields = "SELECT concat(fields->>'description', fields->>'list_price', fields->>'base_uom')
                  FROM crossdock.record WHERE key = 'prd:A-7'";
    assert_eq!(store.sql("canonical", fields).unwrap().trim(), "Bolt0.5EA");
    assert!(crossdock.stop().unwrap(), "{}", crossdock.log_tail());
}

#[test]
fn a_postgresql_database_is_described_well_enough_to_run() {
    let server = Postgres::start().unwrap();
    server.sql("postgres", "CREATE ROLE crossdock LOGIN REPLICATION PASSWORD 'pw'").unwrap();
    server.sql("postgres", "CREATE DATABASE shop").unwrap();
    server.sql("shop", &schema("int PRIMARY KEY", "timestamp")).unwrap();
    let grants = "CREATE PUBLICATION crossdock_shop_shop FOR ALL TABLES;
                  GRANT SELECT ON ALL TABLES IN SCHEMA public TO crossdock";
    server.sql("shop", grants).unwrap();
    begins("postgres", server.port());
}

#[test]
fn a_mariadb_database_is_described_well_enough_to_run() {
    let server = MariaDb::start_with(&DaemonOptions::default()).unwrap();
    let user = "crossdock@'127.0.0.1'";
    let sql = format!(
        "CREATE DATABASE shop; CREATE USER {user} IDENTIFIED BY 'pw'; GRANT SELECT ON shop.* TO {user};
         GRANT REPLICATION SLAVE, RELOAD, REPLICATION CLIENT, SLAVE MONITOR ON *.* TO {user};"
    );
    server.sql("", &sql).unwrap();
    server.sql("shop", &schema("int PRIMARY KEY", "datetime")).unwrap();
    begins("mariadb", server.port());
}

#[test]
fn a_mysql_database_is_described_well_enough_to_run() {
    let server = MySql::start_with(&DaemonOptions::default()).unwrap();
    let user = "crossdock@'127.0.0.1'";
    let sql = format!(
        "CREATE DATABASE shop; CREATE USER {user} IDENTIFIED BY 'pw'; GRANT SELECT ON shop.* TO {user};
         GRANT REPLICATION SLAVE, RELOAD, REPLICATION CLIENT ON *.* TO {user};"
    );
    server.sql("", &sql).unwrap();
    server.sql("shop", &schema("int PRIMARY KEY", "datetime")).unwrap();
    begins("mysql", server.port());
}
