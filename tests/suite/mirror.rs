//! Plain replication: a table of one system as it is in another database.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use crossdock_demo::demo;
use crossdock_demo::systems::TmsKind;
use crossdock_harness::{free_port, wait_until};
use crossdock_tests::Crossdock;

use crate::stage::{copy_demo_files, environment};

const MIRROR: &str = r#"
[target.copy]
kind = "postgres"
host = "127.0.0.1"
port = "${STORE_PORT}"
database = "copy"
user = "crossdock"
password_env = "STORE_PASSWORD"
tls = "disable"

[mirror.customers]
source = "erp"
target = "copy"
tables = ["public.customers"]
"#;

#[test]
fn a_mirrored_table_follows_its_source_over_kills() {
    let systems = demo::start_systems(TmsKind::Mariadb).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = copy_demo_files(folder.path());
    OpenOptions::new().append(true).open(&config).unwrap().write_all(MIRROR.as_bytes()).unwrap();
    let columns =
        "SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', '
                                     ORDER BY attnum)
                   FROM pg_attribute
                   WHERE attrelid = 'customers'::regclass AND attnum > 0 AND NOT attisdropped";
    let columns = systems.erp.sql("erp", columns).unwrap();
    systems.store.sql("postgres", "CREATE DATABASE copy OWNER crossdock").unwrap();
    let table = format!(
        "CREATE TABLE public.customers ({columns}, PRIMARY KEY (id));
         ALTER TABLE public.customers OWNER TO crossdock"
    );
    systems.store.sql("copy", &table).unwrap();

    let port = free_port().unwrap();
    let env = environment(&systems, &folder.path().join("state"), port);
    let mut crossdock = Crossdock::new(&config, &env, port, folder.path());
    crossdock.start().unwrap();
    let all = "SELECT * FROM public.customers ORDER BY id";
    let copied = || systems.store.sql("copy", all).unwrap() == systems.erp.sql("erp", all).unwrap();
    let limit = Duration::from_secs(180);
    assert!(wait_until(limit, copied), "{}", crossdock.log_tail());
    crossdock.kill();
    let changes = "UPDATE customers SET city = 'Altona' WHERE id % 3 = 0;
                   INSERT INTO customers (party_code, name, credit_limit, city, country)
                   VALUES ('C-MIRROR', 'Mirror', 1.50, 'Kiel', 'DE'), ('C-GONE', 'Gone', 2, 'Bonn', 'DE');
                   DELETE FROM customers WHERE party_code = 'C-GONE'";
    systems.erp.sql("erp", changes).unwrap();
    assert!(!copied());
    crossdock.start().unwrap();
    assert!(wait_until(limit, copied), "{}", crossdock.log_tail());
    assert!(crossdock.stop().unwrap(), "{}", crossdock.log_tail());
}
