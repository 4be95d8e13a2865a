//! The harness against the servers themselves.

use std::time::Duration;

use crossdock_harness::{MariaDb, MySql, Postgres, wait_until};

fn alive(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn postgres_keeps_its_data_over_kill_and_stop_and_leaves_nothing() {
    let mut server = Postgres::start().unwrap();
    server.sql("postgres", "CREATE TABLE t(a int); INSERT INTO t VALUES (7);").unwrap();
    server.kill();
    server.start_again().unwrap();
    assert_eq!(server.sql("postgres", "SELECT a FROM t").unwrap(), "7");
    server.stop();
    assert!(server.sql("postgres", "SELECT 1").is_err());
    server.start_again().unwrap();
    assert_eq!(server.sql("postgres", "SHOW wal_level").unwrap(), "logical");
    let pid = server.pid();
    drop(server);
    assert!(wait_until(Duration::from_secs(20), || !alive(pid)));
}

#[test]
fn mariadb_keeps_its_data_over_kill_and_stop_and_leaves_nothing() {
    let mut server = MariaDb::start().unwrap();
    server
        .sql("", "CREATE DATABASE d; CREATE TABLE d.t(a int); INSERT INTO d.t VALUES (7);")
        .unwrap();
    server.kill();
    server.start_again().unwrap();
    assert_eq!(server.sql("d", "SELECT a FROM t").unwrap(), "7");
    server.stop();
    server.start_again().unwrap();
    assert_eq!(server.sql("", "SELECT @@binlog_format").unwrap(), "ROW");
    let pid = server.pid();
    drop(server);
    assert!(wait_until(Duration::from_secs(20), || !alive(pid)));
}

#[test]
fn mysql_keeps_its_data_over_kill_and_stop_and_leaves_nothing() {
    if !MySql::installed() {
        return;
    }
    let mut server = MySql::start().unwrap();
    server
        .sql("", "CREATE DATABASE d; CREATE TABLE d.t(a int); INSERT INTO d.t VALUES (7);")
        .unwrap();
    server.kill();
    server.start_again().unwrap();
    assert_eq!(server.sql("d", "SELECT a FROM t").unwrap(), "7");
    server.stop();
    server.start_again().unwrap();
    assert_eq!(server.sql("", "SELECT @@gtid_mode").unwrap(), "ON");
    assert!(server.authority().is_file());
    let pid = server.pid();
    drop(server);
    assert!(wait_until(Duration::from_secs(20), || !alive(pid)));
}
