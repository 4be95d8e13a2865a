//! What can't be polled is said, with the object and the remedy; and what `check` finds.

use crossdock_capture::{
    CaptureError, DatabaseKind, Memory, Purpose, Severity, SourceOptions, Start, TableCopy,
};
use crossdock_model::{Op, Position};

use super::{Db, Rig, on_both, settings};

on_both!(
    a_cursor_that_went_is_named,
    keys_that_do_not_do_are_refused,
    check_says_what_is_needed,
    a_place_of_a_log_is_refused,
    a_lost_connection_passes,
    rounds_go_on_while_all_rows_are_read,
);

fn definite(error: &CaptureError) -> (String, String) {
    match error {
        CaptureError::Definite { what, remedy } => (what.clone(), remedy.clone()),
        other => panic!("{other:?}"),
    }
}

async fn a_cursor_that_went_is_named(kind: DatabaseKind) {
    let db = Db::new(
        kind,
        "polled_gone",
        "CREATE TABLE t (id int PRIMARY KEY, version bigint NOT NULL);
         CREATE VIEW seen AS SELECT id, version FROM t;",
        &["seen"],
    );
    let mut rig = Rig::snapshot(&db.options("seen", &["id"], &["version"])).await;
    db.sql("DROP VIEW seen; CREATE VIEW seen AS SELECT id, version AS changed FROM t;");
    if kind == DatabaseKind::Postgres {
        db.sql("GRANT SELECT ON seen TO onlooker");
    }
    // Between the two there may be no view at all.
    let (what, remedy) = loop {
        let (what, remedy) = definite(&rig.error().await);
        if what.contains("no column") {
            break (what, remedy);
        }
        rig.restart().await;
    };
    let table = db.table("seen");
    assert_eq!(what, format!("source legacy: {table} has no column version, its `cursor`"));
    assert!(remedy.contains(&format!("[source.legacy.poll.\"{table}\"]")), "{remedy}");
    db.sql("DROP VIEW seen");
    let mut rig = Rig::open(&rig.options, Start::After(rig.position.unwrap()), rig.memory).await;
    let (what, _) = definite(&rig.error().await);
    assert!(what.contains(&format!("{table}, which is polled, does not exist")), "{what}");
}

async fn keys_that_do_not_do_are_refused(kind: DatabaseKind) {
    let db = Db::new(
        kind,
        "polled_keys",
        "CREATE TABLE t (id int, part int, version bigint NOT NULL, doc json);
         INSERT INTO t VALUES (1, 1, 1, '{}'), (1, 2, 2, '{}'), (2, NULL, 3, '{}');",
        &["t"],
    );
    for (key, expected) in [
        (&["id"][..], "two rows of DB.t have the same `key`"),
        (&["id", "part"], "DB.t has a row with NULL in its `key`"),
    ] {
        let options = db.options("t", key, &["version"]);
        let mut rig = Rig::open(&options, Start::Snapshot, Memory::default()).await;
        let (what, _) = definite(&rig.error().await);
        let expected = expected.replace("DB.t", &db.table("t").to_string());
        assert_eq!(what, format!("source legacy: {expected}"));
    }
    if kind == DatabaseKind::Postgres {
        let options = db.options("t", &["id"], &["doc"]);
        let mut rig = Rig::open(&options, Start::Snapshot, Memory::default()).await;
        let (what, _) = definite(&rig.error().await);
        assert!(what.contains("t.doc, its `cursor`, is of a type whose values have no order"));
    }
}

async fn findings(options: &SourceOptions) -> (Vec<String>, Vec<String>, Vec<String>) {
    let found = crossdock_capture::check(options).await.unwrap();
    let of = |severity| {
        let fit = found.iter().filter(|finding| finding.severity == severity);
        fit.map(|finding| format!("{} > {}", finding.what, finding.remedy)).collect()
    };
    (of(Severity::Error), of(Severity::Warning), of(Severity::Ok))
}

async fn check_says_what_is_needed(kind: DatabaseKind) {
    let db = Db::new(
        kind,
        "polled_check",
        "CREATE TABLE t (id int PRIMARY KEY, part int, version bigint, hidden int);
         CREATE TABLE closed (id int PRIMARY KEY, version bigint);
         CREATE VIEW seen AS SELECT part, version FROM t;
         INSERT INTO t VALUES (1, 1, NULL, 1), (2, 1, 2, 1);",
        &["t", "seen"],
    );
    let (t, seen) = (db.table("t"), db.table("seen"));
    let mut options = db.options("t", &["id"], &["version"]);
    let (errors, warnings, ok) = findings(&options).await;
    assert_eq!(errors, [""; 0]);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].starts_with(&format!("{t} has rows with NULL in its cursor (version)")));
    assert!(warnings[1].contains("begins with version") && warnings[1].contains("CREATE INDEX"));
    assert!(warnings[2].starts_with(&format!("{t} is never reconciled")), "{warnings:?}");
    assert!(ok.iter().any(|ok| ok.contains("no right but SELECT is needed")), "{ok:?}");
    assert!(ok.iter().any(|ok| ok.contains("unique by an index")), "{ok:?}");

    db.sql("CREATE INDEX by_version ON t (version); UPDATE t SET version = 1");
    settings(&mut options).reconcile = Some(std::time::Duration::from_secs(60));
    let (errors, warnings, _) = findings(&options).await;
    assert_eq!((errors.len(), warnings.len()), (0, 0), "{warnings:?}");

    let (errors, ..) = findings(&db.options("seen", &["part"], &["version"])).await;
    assert_eq!(
        errors,
        [format!(
            "{seen} has rows with the same key (part) > name columns that tell its rows apart"
        )]
    );
    let (errors, ..) = findings(&db.options("seen", &["part"], &["changed"])).await;
    assert!(errors[0].contains("has no column changed, its `cursor`"), "{errors:?}");
    let (errors, ..) = findings(&db.options("closed", &["id"], &["version"])).await;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("GRANT SELECT ON"), "{errors:?}");
    // What it says is enough.
    let grant = errors[0].split("GRANT").skip(1).map(|rest| format!("GRANT{rest}"));
    db.sql(&grant.collect::<String>());
    assert_eq!(findings(&db.options("closed", &["id"], &["version"])).await.0, [""; 0]);
    let (errors, ..) = findings(&db.options("absent", &["id"], &["version"])).await;
    assert!(errors[0].contains("absent does not exist"), "{errors:?}");
}

async fn a_place_of_a_log_is_refused(kind: DatabaseKind) {
    let table = "CREATE TABLE t (id int PRIMARY KEY, version bigint)";
    let db = Db::new(kind, "polled_place", table, &["t"]);
    let options = db.options("t", &["id"], &["version"]);
    let start = Start::After(Position::Postgres { lsn: 7 });
    let Err(error) = crossdock_capture::open(&options, start, Memory::default()).await else {
        panic!("it was opened")
    };
    assert!(error.to_string().contains("0/7 is no place of a polled source"), "{error}");
}

/// The connection is cut; reading goes on from what is durable. The probe tells the lag.
async fn a_lost_connection_passes(kind: DatabaseKind) {
    let table = "CREATE TABLE t (id int PRIMARY KEY, version bigint); INSERT INTO t VALUES (1, 1)";
    let db = Db::new(kind, "polled_cut", table, &["t"]);
    let options = db.options("t", &["id"], &["version"]);
    let mut rig = Rig::snapshot(&options).await;
    rig.rounds(2).await;
    let connections = match kind {
        DatabaseKind::Postgres => {
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE usename = 'onlooker' AND datname = 'polled_cut'"
        }
        _ => {
            "SELECT concat('KILL ', id) FROM information_schema.processlist
             WHERE user = 'onlooker' AND db = 'polled_cut'"
        }
    };
    let kills = db.sql(connections);
    if kind == DatabaseKind::Mariadb {
        db.sql(&kills.lines().map(|kill| format!("{kill};")).collect::<String>());
    }
    let error = rig.error().await;
    assert!(error.is_transient(), "{error}");
    db.sql("INSERT INTO t VALUES (2, 2)");
    rig.restart().await;
    rig.until_row(0, "2|2").await;

    let head = crossdock_capture::probe(&options).await.unwrap().head(None).await.unwrap();
    assert!(head.position.compare(&rig.position.clone().unwrap()).is_gt());
    let schema = crossdock_capture::describe(&options).await.unwrap().remove(0);
    assert_eq!((schema.name.clone(), schema.key_columns()), (db.table("t"), vec![0]));
}

/// Reading all rows takes its time; what changes meanwhile is seen at once.
async fn rounds_go_on_while_all_rows_are_read(kind: DatabaseKind) {
    let series = match kind {
        DatabaseKind::Postgres => "generate_series(1, 3000) AS s(seq)",
        _ => "seq_1_to_3000",
    };
    let table = format!(
        "CREATE TABLE t (id int PRIMARY KEY, version bigint);
         INSERT INTO t SELECT seq, seq FROM {series}"
    );
    let db = Db::new(kind, "polled_slow", &table, &["t"]);
    let mut rig = Rig::snapshot(&db.options("t", &["id"], &["version"])).await;
    // A page of a thousand rows is a minute.
    rig.options.snapshot.rows_per_second = Some(16);
    let known = rig.memory.tables.pop().unwrap();
    let copy = TableCopy::new(db.table("t"), Purpose::Requested);
    rig.memory.tables.push(TableCopy { cursor: known.cursor, ..copy });
    let from = rig.seen.len();
    rig.restart().await;
    rig.until(|rig| rig.seen[from..].iter().any(|seen| seen.op == Op::Read)).await;
    db.sql("UPDATE t SET version = 9000 WHERE id = 2500");
    rig.until_row(from, "2500|9000").await;
    assert!(rig.messages.is_empty(), "not all rows are read yet");
    assert!(!rig.seen[from..].iter().any(|seen| seen.key == "2900"));
}
