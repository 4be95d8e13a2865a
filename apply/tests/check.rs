//! `check` names what is missing, and its statements mend it.

use crossdock_apply::{ConnectOptions, Finding, Severity, TableUse, store, target};
use crossdock_model::TableName;
use crossdock_model::canonical::WriteKind;

use crate::support::{mariadb, mariadb_database, postgres, postgres_database};

fn used(schema: &str) -> Vec<TableUse> {
    vec![TableUse {
        table: TableName::new(schema, "inbox"),
        key: vec!["event_id".into()],
        columns: vec!["note".into()],
        kinds: vec![WriteKind::Insert, WriteKind::Delete],
    }]
}

fn as_login(options: &ConnectOptions, user: &str) -> ConnectOptions {
    ConnectOptions { user: user.into(), password: "pw".into(), ..options.clone() }
}

/// Applies every remedy; returns how many there were.
fn mend(findings: &[Finding], sql: impl Fn(&str)) -> usize {
    let bad: Vec<_> = findings.iter().filter(|f| f.severity != Severity::Ok).collect();
    bad.iter().for_each(|finding| sql(&finding.remedy));
    bad.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_mend_a_postgres_target() {
    let options = postgres_database("check_target");
    let sql = |text: &str| drop(postgres().sql("check_target", text).unwrap());
    sql("CREATE ROLE check_pg LOGIN PASSWORD 'pw'; CREATE TABLE inbox (event_id int, note text)");
    let options = as_login(&options, "check_pg");
    let findings = target::check(&options, &used("public")).await;
    assert_eq!(mend(&findings, sql), 3, "{findings:?}");
    let findings = target::check(&options, &used("public")).await;
    assert_eq!(mend(&findings, sql), 0, "{findings:?}");
    let findings = target::check(&options, &used("elsewhere")).await;
    assert!(findings.iter().any(|f| f.what.contains("no table elsewhere.inbox")), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_mend_a_mariadb_target() {
    let options = mariadb_database("check_target");
    let sql = |text: &str| drop(mariadb().sql("check_target", text).unwrap());
    sql("CREATE USER check_my@'%' IDENTIFIED BY 'pw'; \
         CREATE TABLE inbox (event_id int, note text); \
         GRANT SELECT ON check_target.inbox TO check_my@'%'");
    let options = as_login(&options, "check_my");
    let findings = target::check(&options, &used("check_target")).await;
    assert_eq!(mend(&findings, sql), 3, "{findings:?}");
    let findings = target::check(&options, &used("check_target")).await;
    assert_eq!(mend(&findings, sql), 0, "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_mend_a_store() {
    let options = postgres_database("check_store");
    let sql = |text: &str| drop(postgres().sql("check_store", text).unwrap());
    sql("CREATE ROLE check_st LOGIN PASSWORD 'pw'");
    let options = as_login(&options, "check_st");
    let refused = crossdock_apply::PostgresStore::open(&options, "plant").await.unwrap_err();
    assert!(refused.to_string().contains("CREATE SCHEMA crossdock AUTHORIZATION"), "{refused}");
    let findings = store::check(&options).await;
    assert_eq!(mend(&findings, sql), 1, "{findings:?}");
    assert_eq!(mend(&store::check(&options).await, sql), 0);
    crossdock_apply::PostgresStore::open(&options, "plant").await.unwrap();
    assert_eq!(mend(&store::check(&options).await, sql), 0);
    let wrong = ConnectOptions { password: "no".into(), ..options };
    let findings = store::check(&wrong).await;
    assert!(findings[0].what.contains("28P01"), "{findings:?}");
    let nobody = ConnectOptions { port: 1, ..wrong };
    let findings = store::check(&nobody).await;
    assert!(findings[0].remedy.contains("host and port"), "{findings:?}");
}
