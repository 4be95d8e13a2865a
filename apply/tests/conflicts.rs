//! Other transactions of the target in the way: a deadlock, a lock that is not let go, a row that
//! changed meanwhile. Each is a transient error, leaves nothing behind, and the batch is made when
//! it is applied again.

use std::time::Duration;

use crossdock_apply::{AnyTarget, ApplyError, ConnectOptions, DatabaseKind, Target, TargetBatch};
use crossdock_harness::{DaemonOptions, MariaDb, wait_until};
use crossdock_model::canonical::{RowWrite, WriteKind};
use crossdock_model::{TableName, Value};
use mysql_async::prelude::Queryable;
use uuid::Uuid;

use crate::support::{
    as_root, mariadb, mariadb_database, mysql, mysql_database, postgres, postgres_database,
};

const LIMIT: Duration = Duration::from_secs(60);
const TABLES: &str = "CREATE TABLE inbox (id int PRIMARY KEY, note varchar(10));
                      CREATE TABLE load_of_work (n int);
                      INSERT INTO inbox (id, note) VALUES (1, 'a'), (2, 'b')";

/// Updates rows one after the other.
fn batch(schema: &str, ids: &[i64]) -> TargetBatch {
    let write = |id: &i64| RowWrite {
        table: TableName::new(schema, "inbox"),
        kind: WriteKind::Update,
        key: vec![("id".into(), Value::Int(*id))],
        columns: vec![("note".into(), Value::Text("ours".into()))],
    };
    let writes = ids.iter().map(|id| (Uuid::from_u128(1), write(id))).collect();
    TargetBatch { stream: "deliver".into(), upto: 1, writes, ..TargetBatch::default() }
}

/// A batch that is being applied, and the target afterwards.
type Applying = tokio::task::JoinHandle<(Result<Option<u64>, ApplyError>, AnyTarget)>;

async fn begin(options: &ConnectOptions, batch: &TargetBatch) -> Applying {
    let mut target = AnyTarget::connect(options, "plant").await.unwrap();
    let batch = batch.clone();
    tokio::spawn(async move { (target.apply(&batch).await, target) })
}

/// It has failed for a while and changed nothing; again, it is made.
async fn fails_once(applying: Applying, batch: &TargetBatch, code: &str, again: impl Future) {
    let (applied, mut target) = applying.await.unwrap();
    let error = applied.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains(code), "{error}");
    assert_eq!(target.progress("deliver").await.unwrap(), None, "nothing is left behind");
    again.await;
    let rows = u64::try_from(batch.writes.len()).unwrap();
    assert_eq!(target.apply(batch).await.unwrap(), Some(rows));
    assert_eq!(target.progress("deliver").await.unwrap().unwrap().seq, 1);
}

async fn other(options: &ConnectOptions) -> mysql_async::Conn {
    let how = mysql_async::OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(options.port)
        .user(Some("root"))
        .db_name(Some(options.database.clone()));
    mysql_async::Conn::new(how).await.unwrap()
}

/// Whether `SHOW ENGINE INNODB STATUS` has a transaction that waits for a lock in `database`.
/// `information_schema.innodb_trx` would not do: it is renewed only when nobody has asked for
/// 100 ms, so that whoever polls it faster sees its first answer for ever.
fn waits_for_a_lock(status: &str, database: &str) -> bool {
    let mut transactions = status.split("---TRANSACTION").skip(1);
    transactions.any(|of| of.contains("LOCK WAIT") && of.contains(database))
}

/// Somebody holds a row and waits for ours, and we wait for that one.
async fn deadlock(options: ConnectOptions, sql: impl Fn(&str) -> String) {
    sql(TABLES);
    let mut other = other(&options).await;
    other.query_drop("START TRANSACTION").await.unwrap();
    // The server ends the transaction that has done less: ours.
    let work = "INSERT INTO load_of_work VALUES (1), (2), (3), (4), (5), (6), (7), (8)";
    for statement in [work, work, "UPDATE inbox SET note = 'x' WHERE id = 2"] {
        other.query_drop(statement).await.unwrap();
    }
    let both = batch(&options.database, &[1, 2]);
    let status = || sql("SHOW ENGINE INNODB STATUS");
    assert!(!waits_for_a_lock(&status(), &options.database));
    let applying = begin(&options, &both).await;
    let waits = || waits_for_a_lock(&status(), &options.database);
    assert!(wait_until(LIMIT, waits), "ours does not wait");
    other.query_drop("UPDATE inbox SET note = 'x' WHERE id = 1").await.unwrap();
    let commit = async { other.query_drop("COMMIT").await.unwrap() };
    fails_once(applying, &both, "1213", commit).await;
    assert_eq!(sql("SELECT count(*) FROM inbox WHERE note = 'ours'"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_of_mariadb() {
    let options = mariadb_database("c_deadlock");
    deadlock(options, |sql| mariadb().sql("c_deadlock", sql).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_of_mysql() {
    let Some(server) = mysql() else { return };
    let options = mysql_database("c_deadlock");
    deadlock(options, |sql| server.sql("c_deadlock", sql).unwrap()).await;
}

/// The server rolls back the statement that has waited for too long, and not the transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_mariadb_waits_for_too_long() {
    let settings = DaemonOptions::with(&[("innodb_lock_wait_timeout", "1")]);
    let server = MariaDb::start_with(&settings).unwrap();
    server.sql("", "CREATE DATABASE c_lock").unwrap();
    server.sql("c_lock", TABLES).unwrap();
    let options = as_root("c_lock", DatabaseKind::Mariadb, server.port());
    let mut other = other(&options).await;
    other.query_drop("START TRANSACTION").await.unwrap();
    other.query_drop("UPDATE inbox SET note = 'x' WHERE id = 2").await.unwrap();
    let both = batch("c_lock", &[1, 2]);
    let applying = begin(&options, &both).await;
    let again = async {
        let untouched = "SELECT note FROM inbox ORDER BY id";
        assert_eq!(server.sql("c_lock", untouched).unwrap(), "a\nb");
        other.query_drop("COMMIT").await.unwrap();
    };
    fails_once(applying, &both, "1205", again).await;
}

/// Where an administrator has made transactions see one moment, a row that changed meanwhile
/// can't be written.
#[tokio::test(flavor = "multi_thread")]
async fn a_serialisation_failure_of_postgres() {
    let options = postgres_database("c_serial");
    let sql = |sql: &str| postgres().sql("c_serial", sql).unwrap();
    sql(TABLES);
    sql("ALTER DATABASE c_serial SET default_transaction_isolation = 'repeatable read'");
    let how = format!("host=127.0.0.1 port={} user=postgres dbname=c_serial", options.port);
    let (other, connection) = tokio_postgres::connect(&how, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    other.batch_execute("BEGIN; UPDATE inbox SET note = 'x' WHERE id = 2").await.unwrap();
    let both = batch("public", &[1, 2]);
    let applying = begin(&options, &both).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = 'c_serial' AND wait_event_type = 'Lock'";
    assert!(wait_until(LIMIT, || sql(waiting) == "1"), "ours does not wait");
    other.batch_execute("COMMIT").await.unwrap();
    fails_once(applying, &both, "40001", async {}).await;
    assert_eq!(sql("SELECT count(*) FROM inbox WHERE note = 'ours'"), "2");
}
